"""An existing class with an injected session: its methods are the steps, the compensations, and the saga."""

EMPTY = ([], [], [])


def world(program):
    """Return the slots, the invoices and the letters."""
    return (
        program.rows("clinic.db", "SELECT doctor, hour, patient FROM slots"),
        program.rows("clinic.db", "SELECT patient, amount FROM invoices"),
        program.names("outbox/*"),
    )


def booked(*hours):
    """Return the world in which Ada has these hours with Doctor House."""
    return (
        [("house", hour, "ada@x") for hour in hours],
        [("ada@x", 40)] * len(hours),
        ["outbox/ada@x.txt"][: len(hours)],
    )


def test_a_booking_is_made_once_wherever_it_is_killed(program):
    """Each start is killed one point further; the last one goes on to the end."""
    for point in ("take:done", "bill", "bill:done", "invite:done"):
        program.run("clinic.py", "house", 9, "ada@x", kill=f"Clinic.{point}")
    assert "invoice 1" in program.run("clinic.py", "house", 9, "ada@x")
    assert world(program) == booked(9)
    assert program.journal == [["completed", "Clinic.take done", "Clinic.bill done", "Clinic.invite done"]]


def test_a_booking_that_fails_leaves_nothing_wherever_it_is_killed(program):
    """The letter fails, and compensation is killed before and after each of its effects."""
    for point in ("credit", "credit:done", "free:done"):
        program.run("clinic.py", "house", 9, "bob", kill=f"Clinic.{point}")
        assert world(program) != EMPTY or point == "free:done"
    assert "ValueError: bob has no address" in program.run("clinic.py", "house", 9, "bob", ends=1)
    assert world(program) == EMPTY
    done = ["Clinic.take done", "Clinic.bill done", "Clinic.invite failed"]
    assert program.journal == [["compensated", *done, "-Clinic.bill", "-Clinic.take"]]


def test_an_hour_that_is_taken_stays_taken(program):
    """The step that fails is not compensated: the hour is another patient's."""
    program.run("clinic.py", "house", 9, "ada@x")
    assert "house is taken at 9" in program.run("clinic.py", "house", 9, "carl@x", ends=1)
    assert world(program) == booked(9)
    assert program.journal[1:] == [["compensated", "Clinic.take failed"]]


def test_a_person_goes_on_or_gives_up_where_nobody_calls(program):
    """The command line takes the clinic that the program provides; what is not provided is told before any effect."""
    target = ("--target", "clinic.py:Clinic.book")
    program.run("clinic.py", "house", 9, "ada@x", kill="Clinic.bill:done")
    code = program.text("clinic.py")
    for verb in (["resume"], ["compensate", "--yes"]):
        (program.folder / "clinic.py").write_text(code.replace("sagadsl.provide(", "print("))
        assert "sagadsl.provide(Clinic, " in program.sagadsl(*verb, "@last", *target, ends=2)
        (program.folder / "clinic.py").write_text(code)
    assert "completed" in program.sagadsl("resume", "@last", *target)
    assert world(program) == booked(9)

    program.run("clinic.py", "house", 10, "ada@x", kill="Clinic.bill:done")
    assert world(program) != booked(9)
    program.sagadsl("compensate", "@last", *target, "--yes", kill="Clinic.credit:done")
    assert "is compensated" in program.sagadsl("compensate", "@last", *target, "--yes")
    assert world(program) == booked(9)
    assert [run[0] for run in program.journal] == ["completed", "compensated"]
