"""The command line: check that both models are there, research a topic, show what came of it."""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from pathlib import Path

import sagadsl
from sagadsl import Compensated, CompensationFailed, Completed, Outcome, SagaError, Suspended
from sagadsl.examples.research.desk import FOLDER, desk
from sagadsl.examples.research.saga import embeddings, research, writer
from sagadsl.llm import answers

PROGRAM = "python -m sagadsl.examples.research"
JOURNAL = "sagadsl.db"
TOPIC = "transformer models in natural language processing"
UNUSABLE, INTERRUPTED = 2, 130


def main(argv: list[str] | None = None) -> int:
    """Research as the options say; return the exit code, 3 for a report that was taken back."""
    options = parser().parse_args(argv)
    desk.folder, desk.at_least = options.folder, options.at_least
    try:
        for model in (writer, embeddings):
            model.check()
        desk.folder.mkdir(parents=True, exist_ok=True)
        sagadsl.configure(store=desk.folder / JOURNAL)
        print(f"Research on {options.topic}, with {writer.model.name}, in {desk.folder}")
        outcome = research.outcome(options.topic)
    except SagaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"{desk.folder} cannot be written to: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    print(told(outcome))
    show_answers(outcome)
    show_folders()
    suggest(options)
    return outcome.exit_code


def told(outcome: Outcome[str]) -> str:
    """Say in a line or two how it ended."""
    match outcome:
        case Completed(value=path):
            return f"published: {path}"
        case Compensated(error=error, compensated_steps=steps):
            return f"taken back: {type(error).__name__}: {error}\ncompensated: {', '.join(steps) or 'nothing'}"
        case CompensationFailed(error=error, compensation_error=why, failed_at_step=step):
            return f"failed: {error}\ncompensating {step} failed too: {type(why).__name__}: {why}"
        case Suspended(status=status, reason=reason):
            return f"{status}: {reason}"


def show_answers(outcome: Outcome[str]) -> None:
    """Print what the model said, what it cost, and what became of it."""
    print("\nAnswers")
    for answer in answers(outcome.run):
        value = textwrap.shorten(str(answer.value or ""), 90)
        print(f"  {answer.step:14} {answer.state:10} {answer.tokens:5} tokens   {value}".rstrip())


def show_folders() -> None:
    """Print which papers there are."""
    for name in ("drafts", "published"):
        papers = sorted(path.name for path in (desk.folder / name).glob("*.md"))
        print(f"\n{desk.folder / name}\n  {', '.join(papers) or '-'}")


def suggest(options: argparse.Namespace) -> None:
    """Print what to try next."""
    at = "" if options.folder == Path(FOLDER) else f" --folder {shlex.quote(str(options.folder))}"
    journal = shlex.quote(str(desk.folder / JOURNAL))
    commands = {
        f"{PROGRAM}{at} 'the tides'": "stop it with Ctrl-C and type it again: nothing is paid twice",
        f"{PROGRAM}{at} --at-least 0.99 'the moon'": "a check that fails",
        f"sagadsl --db {journal} list": "all research, from the journal",
    }
    width = max(map(len, commands))
    print("\nTry next")
    for command, why in commands.items():
        print(f"  {command:{width}}   # {why}")


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Research a topic with a language model of an Ollama server, and publish a report.",
        epilog=(
            "The server is that of OLLAMA_HOST, else this machine's; the models are llama3.2 and nomic-embed-text, or "
            "those that SAGADSL_RESEARCH_MODEL and SAGADSL_RESEARCH_EMBEDDING name."
        ),
    )
    options.add_argument("topic", nargs="?", default=TOPIC, help=f"default: {TOPIC}")
    options.add_argument(
        "--at-least",
        metavar="LIKENESS",
        type=float,
        default=desk.at_least,
        help="how near a report must be to its topic, from 0 to 1; default: %(default)s",
    )
    where = f"where everything lives; default: $SAGADSL_RESEARCH, else {FOLDER}"
    options.add_argument("--folder", type=Path, default=desk.folder, help=where)
    return options
