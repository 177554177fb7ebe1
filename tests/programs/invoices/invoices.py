"""Send the invoices of a month. Exit code 0: all are sent; 3: failed, and nothing stands; see ``sagadsl --help``."""

import argparse
import csv
from decimal import Decimal
from pathlib import Path

import sagadsl
from sagadsl import saga, step


def tear_up(path=None, *, month, customer):
    Path("invoices", f"{month}-{customer}.txt").unlink(missing_ok=True)


@step(compensate=tear_up, key="{customer}")
def write(month: str, customer: str, amount: Decimal) -> Path:
    """Write an invoice."""
    if amount <= 0:
        raise ValueError(f"{customer} owes {amount}")
    path = Path("invoices", f"{month}-{customer}.txt")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{customer}: {amount}\n")
    return path


@step(compensate=None)
def close(month: str, total: Decimal) -> None:
    with Path("ledger.txt").open("a") as ledger:
        ledger.write(f"{month} {total}\n")


@saga(key="{month}")
def invoices(month: str, rows: list[dict[str, str]]) -> Decimal:
    """Send all invoices of a month."""
    total = Decimal(0)
    for row in rows:
        amount = Decimal(row["amount"])
        write(month, row["customer"], amount)
        total += amount
    close(month, total)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("month")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    with given.file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    outcome = invoices.outcome(given.month, rows)
    match outcome:
        case sagadsl.Completed(total):
            print(f"{given.month}: {total}")
        case sagadsl.Compensated(error):
            print(f"{given.month}: not sent: {error}")
        case _:
            print(f"{given.month}: see sagadsl show {outcome.run.id}")
    return outcome.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
