"""The command line: place an order, let things go wrong on purpose, and look at the world afterwards.

Without ``--order`` it goes on with the order that an earlier call left unfinished, or takes the next number.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import sagadsl
from sagadsl import Compensated, CompensationFailed, Completed, Outcome, Run, SagaError, Status, Suspended, UsageError
from sagadsl.examples.order import outbox, payments, shop
from sagadsl.examples.order.bank import TEMPERS
from sagadsl.examples.order.saga import AUDITED_ABOVE, Order, place_order
from sagadsl.examples.order.stage import FOLDER, PLACES, default_folder, stage

PROGRAM = "python -m sagadsl.examples.order"
JOURNAL = "sagadsl.db"
INTERRUPTED = 130

DEFAULTS: dict[str, Any] = {"item": "lamp", "quantity": 2, "amount": Decimal("99.90")}
"""What is ordered when nobody says, and no earlier call of the order did."""


def main(argv: list[str] | None = None) -> int:
    """Place an order as the options say; return the exit code, 3 for one that failed and was compensated."""
    options = parser().parse_args(argv)
    stage.folder, stage.fail, stage.kill = options.folder, options.fail, options.kill
    stage.payment, stage.patience = options.payment, options.patience
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        clear(options.folder)
    sagadsl.configure(store=options.folder / JOURNAL, progress="off")  # it says itself what it does
    try:
        return place(options)
    except SagaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        payments.close()


def place(options: argparse.Namespace) -> int:
    """Place the order and show what came of it."""
    runs = {run.arguments["order_id"]: run for run in reversed(sagadsl.runs(saga="place_order"))}
    order_id = options.order or next_order(runs)
    before = runs.get(order_id)
    wanted = {name: getattr(options, name) for name in DEFAULTS}
    known = DEFAULTS | (before.arguments if before else {})
    arguments = {name: known[name] if value is None else value for name, value in wanted.items()}
    if options.compensate and before is None:
        msg = "no order is unfinished, so there is nothing to compensate"
        raise UsageError(msg)
    print("Order {}: {quantity} {item} for {amount}, in {}".format(order_id, options.folder, **arguments))
    if before is not None and (options.compensate or before.status is Status.COMPENSATION_FAILED):
        run = before.compensate()
        exit_code = 3
        print("compensated")
    else:
        outcome = place_order.outcome(order_id, **arguments)
        run, exit_code = outcome.run, outcome.exit_code
        if before is not None and before.status is Status.COMPLETED:
            print("  placed by an earlier call: the value comes from the journal, no step was entered")
        print(told(outcome))
    show_world()
    show_run(run)
    suggest(options, run)
    return exit_code


def next_order(runs: dict[str, Run]) -> str:
    """Return the order that was left unfinished, or the first number that is free."""
    unfinished = [order_id for order_id, run in runs.items() if not run.status.is_terminal and not run.is_live]
    numbers = (f"o-{number}" for number in range(1, len(runs) + 2))
    return unfinished[0] if unfinished else next(number for number in numbers if number not in runs)


def told(outcome: Outcome[Order]) -> str:
    """Say in a line or two how the order ended."""
    match outcome:
        case Completed(value=order):
            return f"completed: {order}"
        case Compensated(error=error, compensated_steps=steps, standing=standing):
            left = f"\nstill standing: {', '.join(standing)}, which nothing can undo" if standing else ""
            return f"failed: {type(error).__name__}: {error}\ncompensated: {', '.join(steps) or 'nothing'}{left}"
        case CompensationFailed(error=error, compensation_error=why, failed_at_step=step, pending_steps=pending):
            return (
                f"failed: {type(error).__name__}: {error}\ncompensating {step} failed too: {type(why).__name__}: {why}"
                f"\nnot yet compensated: {', '.join((step, *pending))}"
            )
        case Suspended(status=status, reason=reason):
            return f"{status}: {reason}"


def show_world() -> None:
    """Print what is true outside the journal."""
    lines = {
        "shelf": [", ".join(f"{item} {free}" for item, free in shop.shelf())],
        "payments": [f"{order_id} {amount} {state}" for order_id, amount, state in payments.books()],
        "deliveries": [f"{order_id} {state}" for order_id, _, state in shop.deliveries()],
        "audit trail": shop.audit_trail(),
        "outbox": [f"{name}.eml" for name in outbox.mails()],
    }
    between = f"\n{'':21}"
    print(f"\nThe world, in {stage.folder}")
    for name, told_of in lines.items():
        print(f"  {name:18} {between.join(told_of) or '-'}")


def show_run(run: Run) -> None:
    """Print the run as the journal has it."""
    print(f"\nThe journal, in {stage.folder / JOURNAL}\n  {run.id:18} {run.status.replace('_', ' ')}")
    for step in run.steps:
        again = f", entered {step.attempts} times" if step.attempts > 1 else ""
        print(f"    {step.key:18} {step.status.replace('_', ' ')}{again}")


def suggest(options: argparse.Namespace, run: Run) -> None:
    """Print what to try next."""
    at = "" if options.folder == Path(FOLDER) else f" --folder {shlex.quote(str(options.folder))}"
    journal = shlex.quote(str(options.folder / JOURNAL))
    if run.status is Status.COMPENSATION_FAILED:
        commands = {f"{PROGRAM}{at}": "mended: carry on compensating"}
    else:
        commands = {
            f"{PROGRAM}{at} --fail send_confirmation": "fail late: the rest is compensated",
            f"{PROGRAM}{at} --kill charge_payment": "die with the money taken and nothing recorded,",
            f"{PROGRAM}{at}": "then go on: nobody pays twice",
            f"{PROGRAM}{at} --payment hang": "no answer: was the money taken?",
            f"SAGADSL_DB={journal} sagadsl list": "all orders, from the journal",
            f"{PROGRAM}{at} --fresh": "start over",
        }
    width = max(len(command) for command in commands)
    print("\nTry next")
    for command, why in commands.items():
        print(f"  {command:{width}}   # {why}")


def clear(folder: Path) -> None:
    """Delete what the example wrote, and nothing else."""
    for pattern in (f"{JOURNAL}*", "shop.db*", "payments.db*", "effects.log", "outbox/*.eml", "outbox/*.unsent"):
        for path in folder.glob(pattern):
            path.unlink()


# -- options ----------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Place an order: stock, payment, mail and courier, each with a compensation that undoes it.",
        epilog=f"Places: {', '.join(PLACES)}.",
    )
    of_order = options.add_argument_group("the order")
    of_order.add_argument("--order", metavar="ID", help="default: the unfinished one, else the next number")
    of_order.add_argument("--item", help=f"default: {DEFAULTS['item']}")
    of_order.add_argument("--quantity", type=pieces, help=f"default: {DEFAULTS['quantity']}")
    of_order.add_argument("--amount", type=money, help=f"default: {DEFAULTS['amount']}; audited above {AUDITED_ABOVE}")
    of_order.add_argument("--compensate", action="store_true", help="compensate the order instead of going on")
    of_faults = options.add_argument_group("what goes wrong")
    of_faults.add_argument("--fail", metavar="PLACE", choices=PLACES, help="a step or compensation that fails")
    of_faults.add_argument(
        "--kill",
        metavar="PLACE[:before|:after]",
        type=moment,
        help="die there by SIGKILL; after the effect, by default",
    )
    tempers = "; ".join(f"{name}: it {temper.told}" for name, temper in TEMPERS.items())
    of_faults.add_argument("--payment", choices=TEMPERS, default="ok", help=f"the service's temper. {tempers}")
    of_faults.add_argument(
        "--patience",
        metavar="SECONDS",
        type=seconds,
        default=1.0,
        help="how long an answer to the charge is waited for; default: 1",
    )
    where = f"where everything lives; default: $SAGADSL_DEMO, else {FOLDER}"
    options.add_argument("--folder", type=Path, default=default_folder(), help=where)
    options.add_argument("--fresh", action="store_true", help="delete what earlier calls left in the folder")
    return options


def moment(text: str) -> tuple[str, str]:
    """Read ``PLACE[:before|:after]``."""
    place, _, when = text.partition(":")
    if place not in PLACES or when not in {"", "before", "after"}:
        msg = f"{text!r} is not PLACE, PLACE:before or PLACE:after; places: {', '.join(PLACES)}"
        raise argparse.ArgumentTypeError(msg)
    return place, when or "after"


def pieces(text: str) -> int:
    """Read a quantity."""
    quantity = int(text)
    if quantity < 1:
        msg = f"{text!r} is no quantity"
        raise argparse.ArgumentTypeError(msg)
    return quantity


def money(text: str) -> Decimal:
    """Read an amount."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount <= 0:
        msg = f"{text!r} is no amount"
        raise argparse.ArgumentTypeError(msg)
    return amount


def seconds(text: str) -> float:
    """Read a number of seconds."""
    value = float(text)
    if not 0 < value < 3600:  # noqa: PLR2004  # what a socket waits for is a matter of seconds
        msg = f"{text!r} is no time to wait"
        raise argparse.ArgumentTypeError(msg)
    return value
