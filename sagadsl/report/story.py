"""What is to be said of a run, in words and in order, before any format has its say.

Text, HTML and Markdown tell one `Story`: the facts, what happened, what was compensated, what is owed, what still
stands, and who must do what. Whatever comes out of the journal is printable here already; a format only escapes what it
gives a meaning of its own. Long runs are folded in the middle, so that a story fits on a page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import chain
from typing import Any, TypeVar

from attrs import frozen

from sagadsl._core.phrases import command
from sagadsl._core.session import SESSION
from sagadsl._core.values import Status, StepStatus
from sagadsl._core.values.seen import AttemptInfo, RunInfo, StepInfo
from sagadsl.report.words import CUT, SIGNS, age, named_values, printable, span, status_sign, status_words

T = TypeVar("T")

STEPS, COMPENSATIONS, OWED, ATTEMPTS = 60, 30, 20, 6
"""How many lines of each are told before the middle is folded."""

TONES: dict[str, str] = {
    StepStatus.DONE: "good",
    StepStatus.FAILED: "bad",
    StepStatus.NOT_LANDED: "bad",
    StepStatus.ENTERED: "busy",
    StepStatus.RETRYING: "busy",
    StepStatus.UNCERTAIN: "doubt",
    StepStatus.CANCELLED: "doubt",
    StepStatus.COMPENSATING: "back",
    StepStatus.COMPENSATED: "back",
    StepStatus.COMPENSATION_FAILED: "bad",
    StepStatus.SKIPPED: "doubt",
    Status.OPEN: "busy",
    Status.PAUSED: "doubt",
    Status.WAITING: "busy",
    Status.COMPLETED: "good",
}
"""What a status means for the reader, which is what colours show: there are six, and ``calm`` is the last."""


@frozen(kw_only=True)
class Line:
    """One call, or one compensation: when it began, how it stands, what is to be noted of it.

    *share* is where it lies in the time of the run, its begin and its length, as parts of one. *attempts* tells of
    those that were tried again: number, how it ended and with what; *details* is what is looked up: name and text.
    """

    at: str
    sign: str
    name: str
    words: str
    tone: str
    notes: tuple[str, ...] = ()
    share: tuple[float, float] | None = None
    attempts: tuple[tuple[str, str, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()


@frozen
class Gap:
    """Lines left out: *words* says how many, and what they were."""

    words: str


@frozen(kw_only=True)
class Story:
    """A run as it is told. *now* is what can be done: a word or two, and what to type."""

    id: str
    saga: str
    title: str
    sign: str
    words: str
    tone: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[Line | Gap, ...]
    compensated: tuple[Line | Gap, ...]
    owed: tuple[tuple[str, str, str, str] | Gap, ...]
    standing: tuple[tuple[str, str], ...]
    who: str
    now: tuple[tuple[str, str], ...]


def story(
    run: RunInfo, now: datetime | None = None, options: str = "", *, zone: tzinfo = UTC, limit: int = 120
) -> Story:
    """Tell a run.

    Times stand in *zone*; with a *now* in its zone, and with ages. *options* follows each command to type. Values are
    cut at *limit* characters.
    """
    course = Course.of(run)
    calls = folded(run.steps, STEPS, lambda step: step.status not in {StepStatus.DONE, Status.COMPLETED}, _as_gap)
    back = folded(compensations(run), COMPENSATIONS, lambda step: step.status != StepStatus.COMPENSATED, _as_gap)
    stack = [] if run.status.is_terminal else [*owed(run.stack)]
    to_undo = folded(stack, OWED, lambda row: bool(row[-1]), lambda few: Gap(f"{len(few):,} more"))
    return Story(
        id=printable(run.id, 200),
        saga=printable(run.saga),
        title=f"{printable(run.saga)}({printable(named_values(run.arguments, 40), 400)})",
        sign=status_sign(run),
        words=status_words(run),
        tone=run_tone(run),
        facts=tuple(_facts(run, now, zone)),
        steps=tuple(each if isinstance(each, Gap) else _line(each, course, limit) for each in calls),
        compensated=tuple(each if isinstance(each, Gap) else _back(each, course, limit) for each in back),
        owed=tuple(to_undo),
        standing=tuple(_standing(run)),
        who=who(run),
        now=tuple(what_now(run, options)),
    )


def folded(
    items: Sequence[T], most: int, matters: Callable[[T], bool], told: Callable[[Sequence[T]], Gap]
) -> Iterator[T | Gap]:
    """Yield all items, or of too many the first, the last and those between that matter most, and what is left out."""
    if len(items) <= most:
        yield from items
        return
    part = most // 3
    first, last = range(part), range(len(items) - part, len(items))
    between = [at for at in range(part, len(items) - part) if matters(items[at])][: most - 2 * part]
    following = 0
    for at in (*first, *between, *last):
        if at > following:
            yield told(items[following:at])
        yield items[at]
        following = at + 1


def _as_gap(steps: Sequence[StepInfo]) -> Gap:
    counts = Counter(step.status.replace("_", " ") for step in steps)
    return Gap(f"{len(steps):,} more: {', '.join(f'{count:,} {words}' for words, count in counts.most_common())}")


# -- what happened ----------------------------------------------------------------------------------------------------


def _facts(run: RunInfo, now: datetime | None, zone: tzinfo) -> Iterator[tuple[str, str]]:
    if run.parent:
        yield "parent", printable(run.parent, 200)
    if run.program:
        yield "program", printable(run.program, 400)
    if run.generation > 1:
        yield "generation", f"{run.generation}"
    if run.started:
        yield "started", _when(run.started, now, zone)
    if run.ended:
        yield "ended", _when(run.ended, now, zone)
    if run.owner and not run.status.is_terminal:
        yield "owner", printable(run.owner) + ("" if run.is_live else ", gone")
    if run.cancel_requested:
        yield "cancel", "requested: it compensates at its next step or attempt, or when it is opened again"
    if run.cause or run.error:
        yield "cause", printable(": ".join(str(told) for told in (run.cause, run.error) if told), 400)
    yield from _notice(run, now, zone)
    if run.status is Status.COMPLETED and run.result is not None:
        yield "result", printable(repr(run.result), 400)


def _notice(run: RunInfo, now: datetime | None, zone: tzinfo) -> Iterator[tuple[str, str]]:
    """Yield whether the saga's ``notify`` was told how it ended."""
    if run.notified:
        yield "notified", _when(run.notified, now, zone)
    elif run.notify_owed:
        failed = f"failed with {printable(run.notify_error, 200)}; " if run.notify_error else ""
        yield "notify", f"{failed}owed: the next call with these arguments calls it, or resume_all()"


def _when(when: datetime, now: datetime | None, zone: tzinfo) -> str:
    shown = f"{when.astimezone(now.tzinfo if now is not None else zone):%Y-%m-%d %H:%M:%S %Z}"
    return f"{shown}, {ago(when, now)}" if now is not None else shown


def ago(when: datetime | None, now: datetime) -> str:
    """Return how long ago something was."""
    return f"{age((now - when).total_seconds())} ago" if when is not None else ""


def run_tone(run: RunInfo) -> str:
    """Return what the status of a run means for its reader."""
    if run.is_interrupted:
        return "doubt"
    return TONES.get(run.status, "calm")


def step_tone(step: StepInfo, run: RunInfo) -> str:
    """Return what the status of a step means for its reader."""
    return "doubt" if step.status in CUT and not run.is_live and not step.saga else TONES.get(step.status, "calm")


CUT_WORDS = {StepStatus.ENTERED: "cut off", StepStatus.COMPENSATING: "compensation cut off"}
"""What is said of what has no end on record, when nobody is at it any more."""


def step_words(step: StepInfo, run: RunInfo) -> str:
    """Return where a step stands, as people read it."""
    words = step.status.replace("_", " ")
    if run.is_live or step.saga:
        return words
    return CUT_WORDS.get(StepStatus(step.status), words)


@frozen
class Course:
    """A run in time: its first and its last moment that are known."""

    run: RunInfo
    begun: datetime | None
    over: datetime | None

    @classmethod
    def of(cls, run: RunInfo) -> Course:
        """Return the course of a run."""
        of_steps = ((s.started, s.ended, s.compensation_started, s.compensation_ended) for s in run.steps)
        times = [when for when in (run.started, run.ended, *chain.from_iterable(of_steps)) if when is not None]
        return cls(run, run.started, max(times, default=None))

    def offset(self, when: datetime | None) -> str:
        """Return how long after its begin something was, in minutes and seconds."""
        if when is None or self.begun is None:
            return ""
        since = (when - self.begun).total_seconds()
        minutes, seconds = divmod(max(0.0, since), 60)  # a clock may be put back
        return f"{minutes:.0f}:{seconds:04.1f}"

    def share(self, begun: datetime | None, over: datetime | None) -> tuple[float, float] | None:
        """Return where something lies in it; what has not ended lasts to the last moment that is known."""
        if begun is None or self.begun is None or self.over is None or self.over <= self.begun:
            return None
        whole = (self.over - self.begun).total_seconds()
        start = min(max(0.0, (begun - self.begun).total_seconds()), whole)
        length = min(max(0.0, ((over or self.over) - begun).total_seconds()), whole - start)
        return start / whole, length / whole


def _line(step: StepInfo, course: Course, limit: int) -> Line:
    return Line(
        at=course.offset(step.started),
        sign=SIGNS.get(step.status, " "),
        name=printable(step.key, 60),
        words=step_words(step, course.run),
        tone=step_tone(step, course.run),
        notes=tuple(_notes(step, limit)),
        share=course.share(step.started, step.ended),
        attempts=tuple(_attempts(step, limit)),
        details=tuple(_details(step, limit)),
    )


def _notes(step: StepInfo, limit: int) -> Iterator[str]:
    if step.title:
        yield printable(step.title, min(limit, 80))
    if step.seconds is not None:
        yield span(step.seconds)
    if step.attempts > 1:
        yield f"{step.attempts} attempts"
    if step.redefined:
        yield f"redefined since: {printable(', '.join(step.redefined), 80)}"
    if step.uncertain and step.status not in CUT:
        yield "its effect is uncertain"
    if step.error:
        yield printable(step.error, min(limit, 120))
    elif step.status in {StepStatus.DONE, Status.COMPLETED} and step.result is not None:
        yield f"= {printable(repr(step.result), min(limit, 80))}"


def _attempts(step: StepInfo, limit: int) -> Iterator[tuple[str, str, str]]:
    """Yield which attempt ended how, and with what, of those that were tried again."""
    for each in folded(step.tried, ATTEMPTS, lambda tried: tried.status != StepStatus.FAILED, _attempts_gap):
        if isinstance(each, Gap):
            yield "…", "", each.words
        else:
            yield f"attempt {each.number}", _ended(each), printable(each.error or "", limit)


def _attempts_gap(attempts: Sequence[AttemptInfo]) -> Gap:
    counts = Counter(map(_ended, attempts)).most_common()
    return Gap(f"{len(attempts):,} more attempts: {', '.join(f'{count:,} {words}' for words, count in counts)}")


def _ended(attempt: AttemptInfo) -> str:
    return CUT_WORDS.get(StepStatus(attempt.status), attempt.status.replace("_", " "))


def _details(step: StepInfo, limit: int) -> Iterator[tuple[str, str]]:
    if step.arguments:
        yield "arguments", printable(named_values(step.arguments, limit), 4 * limit)
    if step.result is not None:
        yield "result", printable(repr(step.result), 4 * limit)
    if step.note is not None:
        yield "note", printable(repr(step.note), 4 * limit)
    if step.error is not None:
        yield "error", printable(step.error, 4 * limit)
    if step.compensation:
        yield "compensation", printable(step.compensation, 60)
    if step.idempotency_key:
        yield "idempotency key", printable(step.idempotency_key, 2 * limit)


# -- what was compensated, what is owed, what stands -------------------------------------------------------------------


def compensations(run: RunInfo) -> list[StepInfo]:
    """Return the calls whose compensation was begun, in the order in which it was."""
    called = {step.key: step for step in run.steps}
    return [called[key] for key in run.compensations if key in called]


ENDS = {
    StepStatus.COMPENSATED: "done",
    StepStatus.COMPENSATION_FAILED: "failed",
    StepStatus.SKIPPED: "skipped",
}


def _back(step: StepInfo, course: Course, limit: int) -> Line:
    notes = [f"for {printable(step.key, 60)}"]
    begun, over = step.compensation_started, step.compensation_ended
    if begun and over:
        notes.append(span((over - begun).total_seconds()))
    if step.compensation_attempts > 1:
        notes.append(f"{step.compensation_attempts} attempts")
    if step.compensation_error:
        notes.append(printable(step.compensation_error, min(limit, 120)))
    if step.skipped_by:
        notes.append(f"skipped by {printable(step.skipped_by, 60)}: {printable(step.skipped_why, limit)}")
    words = ENDS.get(StepStatus(step.status)) or ("under way" if course.run.is_live else "cut off")
    return Line(
        at=course.offset(begun or over),
        sign=SIGNS.get(step.status, " "),
        name=printable(step.compensation, 60),
        words=words,
        tone=step_tone(step, course.run),
        notes=tuple(notes),
        share=course.share(begun or over, over),
    )


def owed(stack: Sequence[StepInfo]) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is to be compensated, the first to be compensated first: number, function, step and a note."""
    for number, step in enumerate(stack, 1):
        note = "(cut off: its effect is uncertain)" if step.uncertain else ""
        yield f"{number}", printable(step.compensation, 60), f"for {printable(step.key, 60)}", note


def _standing(run: RunInfo) -> Iterator[tuple[str, str]]:
    if run.status is not Status.COMPLETED:
        for step in run.steps:
            if step.standing:
                happened = "may have happened" if step.uncertain else "happened"
                yield printable(step.key, 60), f"it {happened}, and nothing can undo it"
            elif step.status == StepStatus.SKIPPED:
                yield printable(step.key, 60), f"its compensation was skipped by {printable(step.skipped_by, 60)}"


# -- what now ---------------------------------------------------------------------------------------------------------


def who(run: RunInfo) -> str:
    """Return who must act."""
    if run.is_live or run.status.is_terminal:
        stands = not run.is_live and next(_standing(run), None) is not None
        return "nobody has to act, unless what still stands matters" if stands else "nobody has to act"
    if run.status is Status.COMPENSATION_FAILED:
        return "a person mends what made the compensation fail"
    if run.status is Status.PAUSED and run.pivot is not None:
        return f"a person mends what it failed with; past {printable(run.pivot, 60)} it only goes forward"
    if run.status is Status.PAUSED:
        return "a person decides"
    if run.status is Status.WAITING:
        return "those for whom it waits"
    return "whoever runs it goes on"


def to_do(run: RunInfo, options: str) -> tuple[str, str, str]:
    """Return what goes on with a run, what compensates it, and what would be called then, as it is typed."""
    on = typed("resume", run, options)
    if run.program.startswith(SESSION):
        on = "run its cell again" if run.is_block else f"run its cell again, or {on}"
    elif run.is_block:
        on = f"run its program again, which has its body: {printable(run.program, 400)}"
    return on, typed("compensate", run, options), typed("compensate", run, options, dry_run=True)


def typed(verb: str, run: RunInfo, options: str, **asked: Any) -> str:
    """Return what is typed for a run; in Python, if its functions were typed in as well."""
    in_session = run.program.startswith(SESSION)
    return command(verb, printable(run.id, 200), options=options, in_session=in_session, **asked)


def _entered_again(run: RunInfo) -> str:
    """Say which step going on enters again, where it paused the run because nobody knows whether it has happened."""
    for step in reversed(run.steps) if run.status is Status.PAUSED else ():
        is_told = step.error is not None and str(step.error) == str(run.error)
        if is_told and step.status == StepStatus.UNCERTAIN and step.key != run.pivot:
            return f"{printable(step.key, 60)} is entered again, unless its probe knows that it has happened: "
    return ""


def what_now(run: RunInfo, options: str = "") -> Iterator[tuple[str, str]]:
    """Yield what a person can do next: a word or two, and what to type."""
    on, back, look = to_do(run, options)
    if run.is_live and run.is_block and run.program.startswith(SESSION):  # nothing but its handle need be under way
        yield "go on", "by its handle, where it was begun: step(...), then complete() or compensate()"
    elif run.is_live:
        yield "wait", f"a living process has it: {printable(run.owner)}" if run.owner else "a living process has it"
    elif run.status is Status.COMPLETED:
        yield "nothing", "it is completed"
        if run.pivot is None and not run.parent and run.stack:
            yield "compensate", f"later, if need be; look first: {look}"
    elif run.status is Status.COMPENSATED:
        yield "nothing", "it is compensated, and nothing is owed; a new call of the saga is a new run"
    elif run.status is Status.COMPENSATION_FAILED:
        yield "compensate", f"mend what made the compensation fail, then: {back}"
        stuck = next((step.key for step in run.steps if step.status == StepStatus.COMPENSATION_FAILED), None)
        if stuck is not None:
            skip = typed("compensate", run, options, skip=printable(stuck, 200), why="TEXT")
            yield "skip", f"seen to by hand: {skip}"
    elif run.status is Status.COMPENSATING:
        yield "carry on", back
    else:
        yield "go on", f"{_entered_again(run)}{on}"
        if run.pivot is None:
            yield "compensate", back
