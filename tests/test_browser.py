"""Reports and pictures in a real browser: what a person sees, in light and in dark, and that nothing else happens."""

import html
import re
from html.parser import HTMLParser

import browsers
import pytest
from attrs import evolve
from test_html import Reader, long_run
from test_report import RUNS, flight, hotel, trip

from sagadsl import RunInfo, Status
from sagadsl.report import of_run, run_html, run_report
from sagadsl.report.style import DARK, LIGHT

PROBE = "<pre id='probe'></pre><script>document.getElementById('probe').textContent = document.body.innerText</script>"


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def body_of(page):
    return page.partition("<body>")[2].partition("</body>")[0]


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


def colours(picture):
    """Return how many pixels of each colour there are."""
    return {colour: count for count, colour in picture.getcolors(maxcolors=1 << 24)}


class Probe(HTMLParser):
    """What the probe in a page has seen."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.text = False, ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.inside = self.inside or ("id", "probe") in attrs

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data):
        self.text += data if self.inside else ""


def test_a_person_sees_the_timeline_and_may_open_a_step(tmp_path):
    """What is behind a line is not shown until it is opened; all the rest is."""
    run, _ = RUNS["compensation failed"]
    page = f"<!doctype html><meta charset=utf-8>{run_html(run)}"
    shown = Probe(browsers.dom(written(tmp_path / "a.html", page + PROBE))).text
    for words in (
        "compensation failed",
        "hotel#2",
        "Down: no answer",
        "a person mends what made the compensation fail",
    ):
        assert words in shown
    assert "sagadsl compensate trip/7f3a01020304" in shown
    assert "compensation\tcancel" not in shown.replace("\n", "\t")
    opened = page.replace("<details", "<details open") + PROBE
    assert "= 'FL-1'" in shown
    assert "result" not in shown
    assert "result" in Probe(browsers.dom(written(tmp_path / "b.html", opened))).text


@pytest.mark.parametrize("name", ["completed", "compensated", "compensation failed"])
def test_a_report_is_light_or_dark_as_its_reader_prefers(tmp_path, name):
    """Its ground, and the tone of its status in lines and picture."""
    run, _ = RUNS[name]
    file = written(tmp_path / "a.html", run_report(run, "html"))
    tone = {"completed": "good", "compensated": "back", "compensation failed": "bad"}[name]
    for is_dark, palette, other in ((False, LIGHT, DARK), (True, DARK, LIGHT)):
        picture = browsers.seen(file, dark=is_dark)
        counts = colours(picture)
        assert picture.getpixel((2, 2)) == rgb(palette["bg"])
        assert max(counts, key=counts.get) == rgb(palette["bg"])
        assert counts[rgb(palette[tone])] > 100
        assert rgb(other[tone]) not in counts


def test_the_theme_of_a_notebook_counts_more_than_the_system(tmp_path):
    """A dark notebook on a light system has the dark colours, and takes the notebook's own for text."""
    run, _ = RUNS["completed"]
    page = (
        '<!doctype html><meta charset=utf-8><body data-jp-theme-light="false" style="background:#111;'
        f'--jp-content-font-color1:#fafafa">{run_html(run)}'
    )
    counts = colours(browsers.seen(written(tmp_path / "a.html", page)))
    assert counts[rgb(DARK["good"])] > 100
    assert counts[rgb("#fafafa")] > 50
    assert rgb(LIGHT["good"]) not in counts
    assert rgb(LIGHT["fg"]) not in counts


def test_a_picture_stands_by_itself(tmp_path):
    """An SVG file alone, and as the image of a page, has its ground and its colours, light and dark."""
    run = trip(Status.COMPENSATED, flight("compensated", compensation_attempts=1), hotel("failed"))
    of_run(run).save(tmp_path / "a.svg")
    page = written(tmp_path / "a.html", "<body style='margin:0'><img src='a.svg'>")
    for is_dark, palette in ((False, LIGHT), (True, DARK)):
        for file in (tmp_path / "a.svg", page):
            counts = colours(browsers.seen(file, dark=is_dark, size=(400, 400)))
            assert counts[rgb(palette["bg"])] > 5000
            assert counts[rgb(palette["back"])] > 10  # of thin lines, drawn smoothly
            assert counts[rgb(palette["bad"])] > 10


def hostile(address):
    """Return a run all of whose texts would do something in a page that does not escape them."""
    script = "document.title='!'"
    text = f'</style></title></text><script>{script}</script><img src={address}/x onerror="{script}">'
    run = evolve(long_run(3, text), arguments={text: text}, result=text, program=text, owner=text, parent=text)
    return evolve(run, id=text, saga=text)


def test_nothing_in_a_report_is_executed_or_fetched(tmp_path):
    """The page has the title that it says, its texts are there to be read, and nobody was asked for anything."""
    with browsers.listening() as (address, asked):
        run = hostile(address)
        page, fragment = run_report(run, "html"), f"<meta charset=utf-8><title>mine</title>{run_html(run)}"
        picture = of_run(run).svg()
        for name, content in (("page.html", page), ("part.html", fragment), ("graph.svg", picture)):
            after = browsers.dom(written(tmp_path / name, content))
            assert "<script" not in after
            assert "<img" not in after
            if name != "graph.svg":
                assert re.search(r"<title>(.*?)</title>", after, re.DOTALL)[1] != "!"
                assert "onerror" in Reader(body_of(after)).text
        assert asked == []
        unescaped = html.unescape(fragment)  # the judge can say no
        after = browsers.dom(written(tmp_path / "mutant.html", unescaped))
        assert re.search(r"<title>(.*?)</title>", after)[1] == "!"
        assert asked


def test_a_page_of_ten_thousand_steps_is_read_at_once(tmp_path):
    """It is folded, and so is its picture."""
    run: RunInfo = long_run(10_000)
    page = run_report(run, "html")
    assert len(page) < 600_000
    shown = Reader(body_of(browsers.dom(written(tmp_path / "a.html", page)))).text
    assert "step#9999" in shown
    assert re.search(r"… 9,\d\d\d more", shown)
