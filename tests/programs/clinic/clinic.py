"""Book an appointment: a service class with an injected session, as it was before, with four decorators."""

import sqlite3
import sys
from pathlib import Path

import sagadsl
from sagadsl import current, saga, step


class Outbox:
    """The mail gateway of this office: a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)

    def put(self, name, text):
        (self.folder / name).write_text(text)


class Clinic:
    """What happens around an appointment."""

    def __init__(self, session, outbox):
        self.session = session
        self.outbox = outbox

    def free(self, doctor, hour, patient):
        """Free an hour, if it is this patient's."""
        with self.session:
            self.session.execute("DELETE FROM slots WHERE (doctor, hour, patient) = (?, ?, ?)", (doctor, hour, patient))

    @step(compensate=free)
    def take(self, doctor, hour, patient):
        """Take an hour; a second time is the first one."""
        with self.session:
            self.session.execute("INSERT OR IGNORE INTO slots VALUES (?, ?, ?)", (doctor, hour, patient))
            (holder,) = self.session.execute(
                "SELECT patient FROM slots WHERE doctor = ? AND hour = ?", (doctor, hour)
            ).fetchone()
        if holder != patient:
            raise LookupError(f"{doctor} is taken at {hour}")
        return f"{doctor}@{hour}"

    def credit(self, idempotency_key):
        """Delete an invoice, if it was written."""
        with self.session:
            self.session.execute("DELETE FROM invoices WHERE key = ?", (idempotency_key,))

    @step(compensate=credit)
    def bill(self, patient, amount):
        """Write an invoice; return its number."""
        key = current().idempotency_key
        with self.session:
            self.session.execute(
                "INSERT OR IGNORE INTO invoices (key, patient, amount) VALUES (?, ?, ?)", (key, patient, amount)
            )
            (number,) = self.session.execute("SELECT number FROM invoices WHERE key = ?", (key,)).fetchone()
        return number

    @step
    def invite(self, patient, appointment):
        """Write to the patient."""
        if "@" not in patient:
            raise ValueError(f"{patient} has no address")
        self.outbox.put(f"{patient}.txt", f"Your appointment: {appointment}")

    @saga
    def book(self, doctor, hour, patient, amount):
        """Book an appointment; return the number of its invoice."""
        appointment = self.take(doctor, hour, patient)
        invoice = self.bill(patient, amount)
        self.invite(patient, appointment)
        return invoice


def open_session(path):
    session = sqlite3.connect(path)
    session.executescript(
        """
        CREATE TABLE IF NOT EXISTS slots (doctor, hour, patient, PRIMARY KEY (doctor, hour));
        CREATE TABLE IF NOT EXISTS invoices (number INTEGER PRIMARY KEY, key UNIQUE, patient, amount);
        """
    )
    return session


def open_clinic():
    return Clinic(open_session("clinic.db"), Outbox("outbox"))


sagadsl.provide(Clinic, open_clinic)  # for `sagadsl resume` and `compensate`, where nobody calls a clinic's method

if __name__ == "__main__":
    clinic = open_clinic()
    doctor, hour, patient = sys.argv[1:]
    print("invoice", clinic.book(doctor, int(hour), patient, 40))
