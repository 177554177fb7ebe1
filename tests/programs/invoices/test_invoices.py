"""Scripts with arguments and exit codes, as cron and shells want them: one with argparse, one with ``sagadsl.main``."""

DONE, FAILED, STOPPED = 0, 3, 143


def months(program):
    """Write the files of two months, the second with a row that cannot be."""
    (program.folder / "may.csv").write_text("customer,amount\nada,10\nbob,20.50\n")
    (program.folder / "june.csv").write_text("customer,amount\nada,10\nbob,0\n")


def test_a_month_is_sent_once_wherever_it_is_killed(program):
    """The ledger, which is last, has one line, and the exit code says that it is done."""
    months(program)
    for point in ("write:done", "write:done:2", "close"):
        program.run("invoices.py", "may", "may.csv", kill=point)
    for _ in range(2):
        assert "may: 30.50" in program.run("invoices.py", "may", "may.csv", ends=DONE)
    assert program.names("invoices/*") == ["invoices/may-ada.txt", "invoices/may-bob.txt"]
    assert program.text("ledger.txt") == "may 30.50\n"
    assert program.journal == [["completed", "write:ada done", "write:bob done", "close done"]]


def test_a_month_that_fails_ends_with_its_code(program):
    """Killed in compensation too; the exit code is that of a run that failed and is compensated."""
    months(program)
    program.run("invoices.py", "june", "june.csv", kill="tear_up:done")
    assert "june: not sent: bob owes 0" in program.run("invoices.py", "june", "june.csv", ends=FAILED)
    assert program.names("invoices/*") == program.names("ledger.txt") == []
    assert program.journal == [["compensated", "write:ada done", "write:bob failed", "-write:ada"]]


def test_a_script_that_is_stopped_goes_on(program):
    """SIGTERM ends it with 143 and nothing compensated, Ctrl-C with 130; killed or stopped, it goes on."""
    program.run("remind.py", "ada", "bob", "eve", kill="remind:done", KILL_BY="SIGTERM", ends=STOPPED)
    assert program.names("reminders/*") == ["reminders/ada"]
    shown = program.run("remind.py", "ada", "bob", "eve", kill="remind:done:2", KILL_BY="SIGINT", ends=130)
    assert "interrupted" in shown
    program.run("remind.py", "ada", "bob", "eve", kill="remind:done")
    assert "completed" in program.run("remind.py", "ada", "bob", "eve", ends=DONE)
    assert program.names("reminders/*") == ["reminders/ada", "reminders/bob", "reminders/eve"]
    assert program.journal == [["completed", "remind done", "remind#2 done", "remind#3 done"]]


def test_a_script_whose_saga_fails_ends_with_its_code(program):
    """No traceback: one line that says what was compensated."""
    shown = program.run("remind.py", "ada", "4711", ends=FAILED)
    assert "'4711' is no name; compensated remind" in shown
    assert "Traceback" not in shown
    assert program.names("reminders/*") == []
    assert program.journal == [["compensated", "remind done", "remind#2 failed", "-remind"]]
