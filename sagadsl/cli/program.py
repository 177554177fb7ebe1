"""The program: its verbs, what goes to which stream, and how it ends.

Data go to stdout, everything else to stderr. An error of this library is one text that ends with what to type next; a
traceback means a bug.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from sagadsl import SagaError
from sagadsl.cli.acting import cancel, compensate, resume
from sagadsl.cli.demo import demo
from sagadsl.cli.figures import stats
from sagadsl.cli.keeping import backup, doctor, export, import_runs, prune
from sagadsl.cli.looking import graph, list_runs, show, write_json
from sagadsl.cli.running import run_saga
from sagadsl.cli.stores import store_option
from sagadsl.cli.watching import watch
from sagadsl.errors import ExitCode
from sagadsl.report import json_schema, printable_lines

VERBS = (
    *(list_runs, show, graph, watch, stats),
    *(run_saga, resume, compensate, cancel),
    *(prune, doctor, export, import_runs, backup),
    demo,
)


class InOrder(click.Group):
    """Verbs in the order in which people need them, not that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Return the names as they were added."""
        return list(self.commands)


def _tell_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  # click's signature
    if value:
        from importlib.metadata import PackageNotFoundError, version  # slow, and rarely asked for

        try:
            click.echo(f"sagadsl {version('sagadsl')}")
        except PackageNotFoundError:
            click.echo("sagadsl, not installed")
        context.exit()


def _tell_schema(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  # click's signature
    if value:
        write_json(json_schema())
        context.exit()


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="RUN is an id, a beginning of one that no other run has, or @last. Exit codes: "
    f"{'; '.join(f'{code} {code.words}' for code in ExitCode)}.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help="Its version.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_schema,
    help="The JSON Schema of the documents that --json writes.",
)
@store_option
def program() -> None:
    """Look at the runs of your sagas, go on with them, compensate them."""


for verb in VERBS:
    program.add_command(verb)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    tell_warnings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a stream's encoding lacks is spelled out
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None) -> int:
    """Run the command line and return its exit code."""
    try:
        code = program.main(arguments, prog_name="sagadsl", standalone_mode=False)
    except SagaError as error:
        click.echo(printable_lines(error), err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.DONE


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(ExitCode.TERMINATED)


def tell_warnings() -> None:
    """Show on stderr what the library says of a run, unless the user's own code has set logging up.

    Not what happens in it, step by step: that is what progress shows.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(Printable("%(message)s"))
    handler.addFilter(lambda record: not hasattr(record, "event") and not logging.getLogger().handlers)
    logging.getLogger("sagadsl").addHandler(handler)


class Printable(logging.Formatter):
    """Text without control characters: ids and errors come from a file."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as printable text."""
        return printable_lines(super().format(record))
