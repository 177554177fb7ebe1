"""What a notebook shows of runs: what the text says, in HTML that does nothing but be looked at."""

import json
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_documents import judge
from test_report import FULL, RUNS, START, flight, hotel, trip

from sagadsl import Cause, Fault, Status, StepInfo, StepStatus
from sagadsl._core.values.seen import AttemptInfo
from sagadsl.report import of_run, run_html, run_report, run_text, runs_html, stack_html, stack_text
from sagadsl.report.story import Gap, story

TAGS = {"div", "style", "b", "code", "span", "dl", "dt", "dd", "small", "details", "summary", "i", "ol", "li", "p"}
TABLE = {"table", "thead", "tbody", "tr", "th", "td", "wbr"}


class Reader(HTMLParser):
    """What is in HTML: its tags with their attributes, its text, its style."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts, self.styles, self.open = set(), set(), [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.styles += [value for name, value in attrs if name == "style"]
        self.open += [] if tag == "wbr" else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.styles if "style" in self.open else self.texts).append(data)

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def is_inert(html):
    """Tell whether HTML only shows: no script, no id, nothing fetched."""
    read = Reader(html)
    style = "".join(read.styles)
    return (
        read.tags <= TAGS | TABLE
        and read.attributes <= {"class", "style"}
        and not re.search(r"url|@import|expression|//", style)
    )


def strings(told):
    """Yield every text of a story."""
    yield from (told.id, told.words, told.title, told.who, *(text for pair in told.facts for text in pair))
    for line in (*told.steps, *told.compensated):
        yield from (
            [line.words] if isinstance(line, Gap) else (line.at, line.name, line.words, *line.notes, *line.attempts)
        )
    yield from (text for row in told.owed for text in ([row.words] if isinstance(row, Gap) else row))
    yield from (text for pair in (*told.standing, *told.now) for text in pair)


def flat(text):
    return " ".join((" ".join(text) if isinstance(text, tuple) else text).split())


@pytest.mark.parametrize("name", RUNS)
def test_a_fragment_says_what_the_text_says(name):
    """Every word of the timeline, in its order, and the arguments and results to be opened."""
    run, _ = RUNS[name]
    html, text = run_html(run), Reader(run_html(run)).text
    assert is_inert(html)
    at = 0
    for line in run_text(run).split("\n\n")[1].splitlines() if run.steps else ():
        key = line.split()[2]
        at = text.index(key, at) + len(key)
    for each in strings(story(run, limit=400)):
        assert flat(each) in text


def test_what_was_tried_again_is_told():
    """Which attempt failed with what; of many, the first and the last."""
    errors = {number: Fault("builtins:OSError", f"no {number}") for number in range(1, 9)}
    tried = [AttemptInfo(number=number, status="failed", error=error) for number, error in errors.items()]
    run = trip(Status.COMPLETED, hotel(attempts=10, tried=(*tried, AttemptInfo(number=9, status="entered"))))
    assert run_text(run).split("\n\n")[1].splitlines() == [
        "  0:00.2  + hotel        done     2.0 s; 10 attempts",
        "              attempt 1  failed   OSError: no 1",
        "              attempt 2  failed   OSError: no 2",
        "              …                   5 more attempts: 5 failed",
        "              attempt 8  failed   OSError: no 8",
        "              attempt 9  cut off",
    ]
    assert (
        "OSError: no 2 … 5 more attempts: 5 failed attempt 8 failed: OSError: no 8 attempt 9 cut off"
        in Reader(run_html(run)).text
    )


def test_what_a_step_has_noted_is_behind_its_line():
    """Beside its arguments and its result."""
    run = trip(Status.COMPLETED, hotel(note={"model": "small"}))
    assert "note {'model': 'small'}" in Reader(run_html(run)).text


def test_compensations_stand_in_the_order_in_which_they_happened():
    """Not in that of the steps; each with its time."""

    def back(seconds):
        times = {"compensation_started": at(seconds), "compensation_ended": at(seconds + 0.05)}
        return {"compensation_attempts": 1} | times

    run = trip(
        Status.COMPENSATED,
        flight("compensated", **back(4)),
        hotel("compensated", **back(3)),
        StepInfo(key="mail", name="mail", status="done", standing=True, started=at(2.5), ended=at(2.6)),
        error=FULL,
        compensations=("hotel", "flight"),
    )
    assert run_text(run).split("\n\n")[2:4] == [
        (
            "  compensations, in order\n"
            "    0:03.0  - cancel_hotel   done  for hotel; 50 ms\n"
            "    0:04.0  - cancel_flight  done  for flight; 50 ms"
        ),
        "  still standing\n    mail  it happened, and nothing can undo it",
    ]


def at(seconds):
    return START + timedelta(seconds=seconds)


def long_run(count, text="step", **more):
    """Return a run of many steps, every tenth of which failed and was compensated."""
    fault = Fault(f"m:{text}", text * 9)
    steps = tuple(
        StepInfo(
            key=f"{text}#{number}",
            name=text,
            status=StepStatus.COMPENSATION_FAILED if number % 10 == 0 else StepStatus.DONE,
            title=text * 9,
            arguments={text: text * 9},
            result=text * 9,
            error=fault if number % 10 == 0 else None,
            tried=tuple(AttemptInfo(number=number, status="failed", error=fault) for number in range(1, 10)),
            compensation=text,
            compensation_attempts=number % 2,
            compensation_error=fault if number % 10 == 0 else None,
            idempotency_key=text * 9,
            started=at(number),
            ended=at(number + 1),
        )
        for number in range(count)
    )
    return trip(Status.COMPENSATION_FAILED, *steps, cause=Cause.FAILURE, error=fault, stack=steps, **more)


def test_a_long_run_is_folded_in_the_middle():
    """The first, the last, and what is not as it should be; what is left out is counted."""
    lines = run_text(long_run(10_000)).split("\n\n")[1].splitlines()
    assert len([line for line in lines if " attempt " not in line and "more attempts" not in line]) < 100
    assert "step#0 " in lines[0]
    assert "step#9999 " in next(line for line in reversed(lines) if " + " in line)
    lines = [line for line in lines if "more attempts" not in line]
    gaps = [line.strip() for line in lines if line.lstrip().startswith("…")]
    assert gaps[0] == "… 9 more: 9 done"
    assert re.fullmatch(r"… 9,\d\d\d more: 8,\d\d\d done, 9\d\d compensation failed", gaps[-1])
    assert sum(int(gap.split()[1].replace(",", "")) for gap in gaps) == 10_000 - 60


HOSTILE = [
    "<script>document.title='!'</script>", "<img src=x onerror=alert(1)>", "&lt;", '"><b>', "'x'", "--><!--", "]]>",
    "\x1b[31m", "\x1b]8;;http://x\x07", "\u202etxt", "</style><script>", "javascript:x()", "\U0001f600", "\ud800", "\0",
    "url(//x)", "a" * 9, "\n\n", "/", "#", "}</style>",
]  # fmt: skip
texts = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=4), max_size=5).map("".join)


@given(texts, st.sampled_from([1, 70]), st.sampled_from([*Status]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_run_holds_its_fragment_is_inert_and_says_it(text, count, status):
    """Names, arguments, results, errors, owners: shown as they are, or as what cannot be shown; nothing happens."""
    facts = {"id": text, "saga": text, "arguments": {text: text}, "program": text, "owner": text, "parent": text}
    run = evolve(long_run(count, text), status=status, result=text, **facts)
    for html in (run_html(run), runs_html([run] * 3), stack_html(run.stack)):
        assert is_inert(html)
        assert all(c.isprintable() for c in html)
    assert flat(story(run).title) in Reader(run_html(run)).text


@given(texts, st.sampled_from([*Status]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_run_holds_a_terminal_and_a_program_get_it_unharmed(text, status):
    """Text has nothing that a terminal obeys, and as many lines as it says; JSON is the document of its schema."""
    run, other = (
        evolve(long_run(3, word), id=word, saga=word, program=word, owner=word, parent=word, result=1, status=status)
        for word in (f"x{text}", "x")
    )
    for shown in (run_text(run), run_report(run, "text"), str(of_run(run)), stack_text(run.stack)):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert run_text(run).count("\n") == run_text(other).count("\n")
    document = json.loads(run_report(run, "json"))
    judge("run_document").validate(document)
    assert document["run"]["steps"][1]["result"] == f"x{text}" * 9


@pytest.mark.parametrize("text", ["&", "<", "\U0001f600", "step"])
def test_a_fragment_is_small_whatever_it_shows(text):
    """Ten thousand steps, each with the longest texts there are, made of characters that cost the most."""
    run = long_run(10_000, text * 900)
    assert len(run_html(run).encode()) < 200_000
    assert len(runs_html([run] * 5)) < 200_000
    assert len(stack_html(run.stack).encode()) < 200_000


def test_a_judge_of_html_says_no():
    """What would be executed, fetched or found by an id."""
    for wrong in ("<script></script>", "<p id=x>", "<img>", "<p onclick=x>", "<p style='background:url(x)'>"):
        assert not is_inert(f"<div>{wrong}{'</p>' if wrong.startswith('<p') else ''}</div>".replace("<img>", "<a></a>"))
