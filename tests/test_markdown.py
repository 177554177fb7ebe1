"""A report as Markdown, through GitHub's own renderer: what is text stays text, tables keep their cells."""

import html
import re

import cmarkgfm
import pytest
from attrs import evolve
from cmarkgfm.cmark import Options
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_html import HOSTILE, long_run
from test_report import RUNS

from sagadsl import Status
from sagadsl.report import run_report
from sagadsl.report.markdown import code
from sagadsl.report.story import Gap, story

MARKUP = [
    "*a*", "__b__", "`c`", "```", "|", r"\|", "[x](//y)", "![i](//j)", "<b>", "# h", "1. x", "~~s~~", "@ana", "#12",
    "https://x.y", "www.x.y", "a@x.y", "\\", "&amp;", "&#64;", "<!--", "$x$", ":tada:", "- [ ] x", "\n", "  \n",
]  # fmt: skip
texts = st.lists(st.sampled_from(HOSTILE + MARKUP) | st.text(max_size=4), max_size=5).map("".join)


def rendered(markdown):
    """Return what GitHub makes of Markdown, raw HTML included."""
    return cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE)


def tables(page):
    """Return the tables of a page, as the text of their cells."""
    found = []
    for table in re.findall(r"<table>(.*?)</table>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        found.append([[cell_text(cell) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)] for row in rows])
    return found


def cell_text(cell):
    assert not re.search(r"<(?!/?code>|/?a[ >])", cell), cell
    return html.unescape(re.sub(r"<.*?>", "", cell))


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("name", RUNS)
def test_a_report_has_a_table_of_what_happened(name):
    """Facts, steps and compensations in rows; what is to be typed in a block of its own."""
    run, _ = RUNS[name]
    page = rendered(run_report(run, "markdown"))
    facts, *others = tables(page)
    assert ["saga", story(run).title] in facts
    if run.steps:
        assert [row[2] for row in others[0][1:]] == [step.key for step in run.steps]
    if run.status in {Status.OPEN, Status.PAUSED} and not run.is_live:
        assert "<code>sagadsl resume trip/7f3a01020304\n</code>" in page
    assert '<pre lang="mermaid"><code>flowchart TB' in page


def check(run):
    """Check that the tables of a run's report have their cells, and the rest nothing that the text has brought."""
    told = story(run, limit=400)
    page = rendered(run_report(run, "markdown"))
    facts, *others = tables(page)
    assert [[name, flat(value)] for name, value in facts[1:]] == [
        ["run", flat(told.id)], ["saga", flat(told.title)], *([name, flat(value)] for name, value in told.facts),
    ]  # fmt: skip
    for rows, lines in zip(others, (told.steps, told.compensated), strict=False):
        names = [flat(row[2]) for row in rows[1:] if row[1]]
        assert names == [flat(line.name) for line in lines if not isinstance(line, Gap)]
        assert {len(row) for row in rows} == {5}
    outside = re.sub(r"<pre.*?</pre>|<table>.*?</table>", "", page, flags=re.DOTALL)
    tags = set(re.findall(r"<(\w+)", outside))
    assert tags <= {"h2", "h3", "ul", "ol", "li", "p", "code", "details", "summary", "a"}
    assert "<a" not in outside.replace('<a href="mailto:', "")
    assert not re.search(r"(?<![\w&#])@\w", re.sub(r"<code>.*?</code>", "", outside))


@given(texts, st.sampled_from([*Status]))
@example("@ana #1 :tada: http://x.y", Status.OPEN)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_run_holds_is_text(text, status):
    run = long_run(4, text)
    check(evolve(run, id=text, saga=text, status=status, owner=text, program=text, parent=text, result=text))


@given(texts)
def test_code_is_the_text_that_it_was(text):
    """In a table, and behind text: the very characters."""
    shown = story(evolve(long_run(0), id=text)).id
    page = rendered(f"| | |\n|---|---|\n| a | {code(shown)} |\n")
    assert [flat(cell) for cell in tables(page)[0][1]] == ["a", flat(shown)]


def test_the_judge_of_markdown_says_no(monkeypatch):
    """What is not escaped breaks out of its cell."""
    monkeypatch.setattr("sagadsl.report.markdown.literal", lambda text: text)
    with pytest.raises(AssertionError):
        check(long_run(2, "a | <b>x</b> *y*"))
