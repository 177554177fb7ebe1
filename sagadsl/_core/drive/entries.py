"""Entries: written, taken into the run's state, told to its observers; in this order.

One is written by itself (`write`), or as a `Ticket` beside those of others (`ticket_of`); then `take_in` follows, once
it is known what came of that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from sagadsl._core.journal import Letter, Overtaken, Taken, Unread
from sagadsl._core.journal.together import Ticket
from sagadsl._core.scope import Scope, called_at
from sagadsl._core.scope.outlined import outline_with
from sagadsl._core.scope.slot import OpenRun
from sagadsl._core.values import Cause, Entry, Kind, Status, because
from sagadsl.errors import JournalError, RunCancelledError, RunLockedError, RunLostError, Stop

log = logging.getLogger("sagadsl")


def write(entry: Entry, read: Iterable[Letter] = ()) -> None:
    """Append an entry, which acts on the letters *read*, take it into the run's state, tell the observers.

    Raises:
        Stop: The journal cannot be written, or another process has the run, or it is cancelled.
    """
    of = entry.of
    run: OpenRun = of.scope.run
    entry.at = run.clock()
    earlier: list[Entry] | None = None
    try:
        if run.pending or type(of) is Scope:
            earlier = commit(run, entry, read)
        else:
            run.journal.append(run.log, entry, entry.kind in run.full)
        of.apply(entry)
    except Unread:
        obey(of.scope)
        write(entry)
        return
    except BaseException as error:  # noqa: BLE001  # raised again, or what stands for it
        raise halted(run, error) from error.__cause__
    if run.observers:
        tell(run, [*(earlier or ()), entry])


def commit(run: OpenRun, entry: Entry, read: Iterable[Letter]) -> list[Entry]:
    """Write an entry with those that wait for it (the run's opening, a take-over, a decision), and return those.

    It may be one of them, which waits no longer.
    """
    with run.guard:  # several branches may begin at once, and one of them opens the run
        earlier = run.pending = [each for each in run.pending if each is not entry]
        run.journal.commit(run.log, read=read, **all_at_once(run, entry))
        run.pending, run.is_new = [], False
    return earlier


def all_at_once(run: OpenRun, entry: Entry) -> dict[str, Any]:
    """Return what is committed with an entry: those that wait for it, and what they say of the run as a whole."""
    entries = [*run.pending, entry]
    ends = [FINISHED[each.kind] for each in entries if not each.step and each.kind in FINISHED]
    finished = ends[-1] if ends else None
    outline = None
    if not entry.step and entry.kind in LAST_WORDS:
        outline = outline_with(entry.of, entry, run.log.seq + len(entries)).text()
    return {
        "entries": entries,
        "full": entry.kind in run.full or run.is_new,
        "row": run.row if run.is_new else None,
        "finished": finished,
        "untold": False if entry.kind is Kind.NOTIFIED else finished if run.notifies else None,
        "outline": outline,
    }


def ticket_of(run: OpenRun, entry: Entry) -> Ticket:
    """Return what has an entry written beside those of others, with what waits for it."""
    entry.at = run.clock()
    if run.pending or type(entry.of) is Scope:
        return Ticket(run.log, **all_at_once(run, entry))
    return Ticket(run.log, (entry,), entry.kind in run.full)


def take_in(entry: Entry, ticket: Ticket) -> None:
    """Do what `write` does once it knows what came of its entry.

    Raises:
        Stop: It could not be written.
    """
    of, error = entry.of, ticket.error
    run: OpenRun = of.scope.run
    if error is not None:
        if not isinstance(error, Unread):
            raise halted(run, error) from error.__cause__
        obey(of.scope)
        write(entry)
        return
    if len(ticket.entries) > 1:
        run.pending, run.is_new = [], False
    of.apply(entry)
    if run.observers:
        tell(run, [*ticket.entries])


def halted(run: OpenRun, error: BaseException) -> BaseException:
    """Stop a run because of what came instead of its entry; return what is raised.

    After a Ctrl-C around the commit, whether the row is there only the file can tell.
    """
    if isinstance(error, Overtaken):
        return run.halt(RunLostError(run.id))
    if isinstance(error, Taken):
        return run.halt(RunLockedError(run.id))
    stop = run.halt(error)
    return stop if isinstance(error, JournalError) else error


def tell(run: OpenRun, entries: list[Entry]) -> None:
    """Tell a run's observers of entries that are durable; what they do is no part of the run."""
    for entry in entries:
        entry.run, entry.of = run.id, None
        for observer in run.observers:
            called_at(None, observer, entry)


def obey(scope: Scope) -> None:
    """Act on what others have told a run that goes on: it compensates from here on, or says that this is too late.

    Raises:
        Stop: It is cancelled.
    """
    root, run = scope.root, scope.run
    with run.guard:  # of several branches that are told, one acts
        try:
            unread = [letter for letter in run.journal.letters(run.row.number) if letter.seq is None]
        except JournalError as error:
            raise run.halt(error) from error
        unknown = next((letter.kind for letter in unread if letter.kind != Cause.CANCEL), None)
        if unknown is not None:
            reason = f"run {run.id} got a letter of a kind that is unknown here, {unknown!r:.80}: upgrade sagadsl"
            raise run.halt(JournalError(run.journal.name, reason))
        cancelled = RunCancelledError(run.id, (unread[0].payload if unread else None) or "")
        if run.log.is_turned or (unread and root.status is not Status.OPEN):  # it has begun to compensate meanwhile
            raise Stop(cancelled)
        if not unread:
            return
        pivot = root.pivot()
        if pivot is not None:
            log.warning("%s is not cancelled: %s is past, or perhaps past", run.id, pivot.key, extra={"run": run.id})
            write(root.entry(Kind.REFUSED, result=because(Cause.CANCEL)), unread)
            return
        told = because(Cause.CANCEL, fault=run.codec.encode_fault(cancelled)[0])
        write(root.entry(Kind.COMPENSATING, result=told), unread)
        raise Stop(cancelled)


FINISHED = {Kind.COMPLETED: True, Kind.COMPENSATED: True, Kind.COMPENSATING: False}
"""What an entry about the root says of the run as a whole: whether anybody need look for it again."""
LAST_WORDS = frozenset({Kind.COMPLETED, Kind.COMPENSATED, Kind.NOTIFIED, Kind.NOTIFY_ERROR})
"""What about the root leaves the run ended: its row then says how."""
