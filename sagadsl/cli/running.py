"""``run``: a saga called from the command line, as the whole work of this process."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

import sagadsl
from sagadsl import Completed, UsageError
from sagadsl.cli.acting import finished, say
from sagadsl.cli.looking import is_terminal, json_option, write, write_json
from sagadsl.cli.stores import store_is_named, store_option, store_path, store_words
from sagadsl.cli.targets import load
from sagadsl.report import ending, printable_lines, run_document


@click.command(name="run")
@click.argument("target")
@click.option("--arg", "given", multiple=True, metavar="NAME=VALUE", help="An argument: a text, or JSON.")
@click.option("--args", "document", metavar="JSON", help="All arguments as one JSON object; - reads it from stdin.")
@click.option("--id", "run_id", metavar="ID", help="The run's id; what has one is done once.")
@click.option("--key", metavar="KEY", help="The run's key: its id is then SAGA/KEY.")
@json_option
@store_option
def run_saga(
    target: str,
    given: tuple[str, ...],
    document: str | None,
    run_id: str | None,
    key: str | None,
    as_json: bool,  # noqa: FBT001  # a flag
) -> int:
    """Run a saga: TARGET is module:saga or file.py:saga.

    A file with relative imports is imported as the module that it is in its package.

    Its value is written to stdout, unless that is None; its exit code is that of the saga. A Ctrl-C or SIGTERM leaves
    the run where it is; the same command goes on with it.
    """
    arguments = texts(given) if document is None else values(document, given)
    saga = load(target)
    chosen: dict[str, Any] = {"id": run_id, "key": key, "store": store_path() if store_is_named() else None}
    sagadsl.configure(store=store_path())
    settled = saga.using(**{name: value for name, value in chosen.items() if value is not None})
    outcome = finished(settled.outcome_by_names(arguments, is_text=document is None))
    if as_json:
        write_json(run_document(outcome.run))
    elif isinstance(outcome, Completed) and outcome.value is not None:
        value = str(outcome.value)  # as `print` would show it; a terminal is not to be steered by it
        write(printable_lines(value, len(value)) if is_terminal(sys.stdout) else value)
    say(ending(outcome, options=store_words()))
    code: int = outcome.exit_code
    return code


def texts(given: tuple[str, ...]) -> dict[str, str]:
    """Return arguments by name, as texts.

    Raises:
        UsageError: One is no NAME=VALUE, or is there twice.
    """
    found: dict[str, str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name or name in found:
            msg = f"--arg {each}: give each argument once, as NAME=VALUE"
            raise UsageError(msg)
        found[name] = text
    return found


def read_stdin() -> str:
    """Return what comes in, which is nothing where a process was started without that stream."""
    return sys.stdin.read() if sys.stdin is not None else ""


def values(document: str, given: tuple[str, ...]) -> dict[str, Any]:
    """Return arguments by name, as a JSON object says them.

    Raises:
        UsageError: It is none, or there are others beside it.
    """
    try:
        found = json.loads(read_stdin() if document == "-" else document)
    except ValueError as error:
        msg = f"--args is no JSON: {error}"
        raise UsageError(msg) from error
    if given or not isinstance(found, dict):
        msg = '--args takes one JSON object, such as \'{"city": "Rome"}\', and no --arg beside it'
        raise UsageError(msg)
    return found
