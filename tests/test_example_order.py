"""The example as its users run it: real processes, real HTTP, real files, real kills."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from email import message_from_bytes, policy

import pytest

from sagadsl.examples.order.bank import Bank
from tests.commands import Commands

ENV = {name: value for name, value in os.environ.items() if not name.startswith("SAGADSL")}
ENV |= {"PYTHONWARNINGS": "error"}
KILLED = -9
FAILED = 3
UNDECIDED = 6
STEPS = ["reserve_inventory", "charge_payment", "audit", "send_confirmation", "schedule_delivery"]
COMPENSATIONS = {
    "schedule_delivery": "cancel_delivery",
    "send_confirmation": "send_cancellation",
    "charge_payment": "refund_payment",
    "reserve_inventory": "release_inventory",
}


class Demo:
    """The example in a folder, called from outside."""

    def __init__(self, folder, commands):
        self.folder, self.commands = folder, commands

    def start(self, *options):
        """Start the program."""
        command = [sys.executable, "-m", "sagadsl.examples.order", "--folder", str(self.folder)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *options], env=ENV, **pipes)

    def __call__(self, *options):
        """Run the program; keep what it printed."""
        program = ["-m", "sagadsl.examples.order", "--folder", str(self.folder)]
        ended = self.commands.run(self.folder.parent, *program, *options)
        self.out, self.err = ended.stdout, ended.stderr
        return ended.returncode

    def rows(self, name, sql):
        with closing(sqlite3.connect(self.folder / name)) as database:
            return database.execute(sql).fetchall()

    @property
    def changes(self):
        """Every effect that changed the world, in order."""
        log = self.folder / "effects.log"
        lines = [line.split("\t") for line in log.read_text().splitlines()] if log.exists() else []
        return [place for _, place, changed, _ in lines if changed == "changed"]

    @property
    def lamps(self):
        return self.rows("shop.db", "select free from inventory where item = 'lamp'")[0][0]

    @property
    def payments(self):
        return self.rows("payments.db", "select amount, state from payments where amount is not null order by number")

    @property
    def deliveries(self):
        return [state for (state,) in self.rows("shop.db", "select state from deliveries order by rowid")]

    @property
    def mails(self):
        return sorted(path.name for path in self.folder.glob("outbox/*.eml"))

    @property
    def status(self):
        return [status for (status,) in self.rows("sagadsl.db", "select status from runs order by started, generation")]


@pytest.fixture(scope="module")
def commands():
    started = Commands(ENV)
    yield started
    started.close()


@pytest.fixture
def demo(tmp_path, commands):
    return Demo(tmp_path / "demo", commands)


def test_with_no_options_an_order_is_placed_and_the_world_is_shown(demo):
    assert demo() == 0
    assert demo.changes == [step for step in STEPS if step != "audit"]
    assert (demo.lamps, demo.payments, demo.deliveries) == (18, [("99.90", "taken")], ["scheduled"])
    assert demo.mails == ["place_order-o-1-send_confirmation.eml"]
    assert "completed: Order(" in demo.out
    assert "lamp 18" in demo.out
    assert "--kill charge_payment" in demo.out
    assert demo.err == ""


def test_a_large_order_is_audited(demo):
    assert demo("--amount", "1000.01") == 0
    assert demo.changes == STEPS


@pytest.mark.parametrize("failing", STEPS)
def test_whichever_step_fails_the_steps_before_it_are_compensated_in_reverse(demo, failing):
    before = STEPS[: STEPS.index(failing)]
    assert demo("--amount", "1500", "--fail", failing) == FAILED
    assert f"MadeToFail: {failing}" in demo.out
    assert demo.changes == before + [COMPENSATIONS[step] for step in reversed(before) if step in COMPENSATIONS]
    assert demo.lamps == 20
    assert [state for _, state in demo.payments] == ["refunded"] * ("charge_payment" in before)
    assert len(demo.mails) == 2 * ("send_confirmation" in before)
    assert ("still standing: audit" in demo.out) == ("audit" in before)
    assert demo.status == ["compensated"]


def test_the_cancellation_answers_the_confirmation_and_says_why(demo):
    assert demo("--fail", "schedule_delivery") == FAILED
    mails = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in demo.folder.glob("outbox/*.eml")]
    confirmation, cancellation = sorted(mails, key=lambda mail: "cancelled" in mail["Subject"])
    assert confirmation["Subject"] == "Order o-1 is confirmed"
    assert cancellation["In-Reply-To"] == confirmation["Message-ID"]
    assert "schedule_delivery was made to fail" in cancellation.get_content()


def test_a_declined_card_is_not_tried_again(demo):
    assert demo("--payment", "declined") == FAILED
    assert demo.out.count("402 card declined") == 1
    assert "failed: CardDeclined" in demo.out
    assert demo.changes == ["reserve_inventory", "release_inventory"]
    assert (demo.lamps, demo.payments) == (20, [])


def test_a_busy_service_is_tried_again(demo):
    assert demo("--payment", "busy") == 0
    assert demo.out.count("503 busy") == 2
    assert "charge_payment     done, entered 3 times" in demo.out
    assert demo.payments == [("99.90", "taken")]


def test_an_answer_that_comes_too_late_is_asked_for_again_and_nobody_pays_twice(demo):
    assert demo("--payment", "late", "--patience", "1") == 0
    assert demo.out.count("no answer within 1 s") == 1
    assert "already taken" in demo.out
    assert demo.payments == [("99.90", "taken")]


def test_money_is_given_back_although_the_service_never_answered(demo):
    assert demo("--payment", "hang", "--patience", "0.25") == FAILED
    assert demo.out.count("no answer within 0.25 s") == 4
    assert "failed: TimeoutError" in demo.out
    assert demo.payments == [("99.90", "refunded")]
    assert demo.lamps == 20


def test_a_charge_that_arrives_after_its_refund_is_refused(tmp_path):
    """A client that gave up cannot know whether its request is still on the way."""
    bank = Bank(tmp_path / "payments.db", "ok")
    try:
        assert bank.respond("POST", "/refunds", "key", {}) == (200, {"refunded": None})
        assert bank.respond("POST", "/payments", "key", {"order_id": "o-1", "amount": "5"})[0] == 409
        assert bank.respond("GET", "/payments", "", None) == (200, {"payments": []})
    finally:
        bank.stop()


def test_a_placed_order_is_recalled_and_nothing_is_entered(demo):
    assert demo() == 0
    placed = re.search("completed: .*", demo.out)[0]
    assert demo("--order", "o-1", "--kill", "reserve_inventory:before") == 0
    assert placed in demo.out
    assert "no step was entered" in demo.out
    assert len(demo.changes) == 4


def test_the_same_order_with_another_quantity_is_a_conflict(demo):
    assert demo() == 0
    assert demo("--order", "o-1", "--quantity", "7") == 2
    assert "quantity was 2, is 7" in demo.err
    assert demo.lamps == 18


def test_without_an_order_the_next_call_takes_the_next_number(demo):
    assert demo() == 0
    assert demo("--fail", "reserve_inventory") == FAILED
    assert demo() == 0
    assert [line.split()[1] for line in demo.out.splitlines() if line.startswith("  place_order")] == ["completed"]
    assert "Order o-3:" in demo.out


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_killed_order_goes_on_with_what_was_ordered(demo, step, moment):
    assert demo("--amount", "1500", "--quantity", "3", "--kill", f"{step}:{moment}") == KILLED
    assert demo() == 0
    assert "Order o-1: 3 lamp for 1500" in demo.out
    assert "resuming place_order/o-1" in demo.err or (step, moment) == ("reserve_inventory", "before")
    assert demo.changes == STEPS
    assert (demo.lamps, demo.payments, demo.deliveries) == (17, [("1500", "taken")], ["scheduled"])


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("compensation", ["send_cancellation", "refund_payment", "release_inventory"])
def test_a_killed_compensation_goes_on_compensating(demo, compensation, moment):
    assert demo("--fail", "schedule_delivery", "--kill", f"{compensation}:{moment}") == KILLED
    assert demo() == FAILED
    assert "goes on compensating" in demo.err
    assert demo.changes[3:] == ["send_cancellation", "refund_payment", "release_inventory"]
    assert (demo.lamps, demo.payments) == (20, [("99.90", "refunded")])


def test_a_killed_order_can_be_compensated_instead(demo):
    assert demo("--kill", "schedule_delivery") == KILLED
    assert demo("--compensate") == FAILED
    assert demo.changes[4:] == ["cancel_delivery", "send_cancellation", "refund_payment", "release_inventory"]
    assert (demo.lamps, demo.payments, demo.deliveries) == (20, [("99.90", "refunded")], ["cancelled"])


def test_without_an_unfinished_order_there_is_nothing_to_compensate(demo):
    assert demo() == 0
    assert demo("--compensate") == 2
    assert "no order is unfinished" in demo.err
    assert demo.lamps == 18


def test_an_interrupted_order_is_not_a_failed_one(demo):
    with demo.start("--payment", "hang", "--patience", "60") as process:
        assert any("reserve_inventory" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert demo.status == ["open"]
    assert demo() == 0
    assert demo.changes == [step for step in STEPS if step != "audit"]


def test_a_compensation_that_failed_is_carried_on_with_by_the_next_call(demo):
    assert demo("--fail", "release_inventory", "--payment", "declined") == UNDECIDED
    assert "not yet compensated: reserve_inventory" in demo.out
    assert (demo.lamps, demo.status) == (18, ["compensation_failed"])
    assert demo() == FAILED
    assert (demo.lamps, demo.status) == (20, ["compensated"])


def test_more_than_the_shop_has_is_refused(demo):
    assert demo("--item", "desk", "--quantity", "4") == FAILED
    assert "failed: OutOfStock: 4 desk wanted, 3 there" in demo.out
    assert demo.changes == []


def test_fresh_starts_over_and_deletes_nothing_else(demo):
    assert demo() == 0
    (demo.folder / "notes.txt").write_text("mine")
    assert demo("--fresh") == 0
    assert "Order o-1:" in demo.out
    assert len(demo.changes) == 4
    assert (demo.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "options",
    [["--kill", "nowhere"], ["--kill", "audit:during"], ["--amount", "-1"], ["--quantity", "0"], ["--patience", "0"]],
)
def test_an_option_that_cannot_be_meant_is_refused(demo, options):
    assert demo(*options) == 2
    assert options[1] in demo.err
    assert not demo.folder.exists()
