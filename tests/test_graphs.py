"""Graphs of sagas, runs and plans: what they say as text, and that Graphviz, browsers and people get them whole."""

import asyncio
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from datetime import timedelta
from textwrap import dedent

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_html import long_run, texts
from test_report import RUNS, START, flight, hotel, trip

from sagadsl import IRREVERSIBLE, PIVOT, Status, StepInfo, aio, parallel, saga, step
from sagadsl.plan import Plan
from sagadsl.report import Graph, of_plan, of_run
from sagadsl.report.blocks import Box, Call, Fork, Mesh, More, Series
from sagadsl.report.svg import measure


def undo(result=None):
    raise NotImplementedError


@step(compensate=undo)
def reserve(item):
    return item


@step(compensate=IRREVERSIBLE)
def mail(to):
    return to


@step(compensate=PIVOT)
def ship(to):
    return to


@step
def audit(order):
    return order


@saga
def pack(items):
    return [reserve(item) for item in items]


def helper(order):
    audit(order)


def text_of(graph):
    return str(graph).splitlines()


def squeezed(text):
    """Return lines with two places between their columns, however wide these are."""
    return re.sub(r"(?<=\S)  +", "  ", str(text))


# -- from code --------------------------------------------------------------------------------------------------------


def test_a_saga_draws_itself_from_its_code():
    """Calls in order, conditions, loops, children, branches, handlers; what takes each back, and where nothing can."""

    @saga
    def order(items, amount):
        first = reserve(reserve("a").upper())
        if amount > 1000:
            audit(1)
        elif amount:
            ship(first)
        else:
            helper(2)
        try:
            pack(items)
        except (OSError, ValueError):
            mail("boss")
        finally:
            audit.using(key="x")(3)
        parallel(lambda: reserve("b"), lambda: [mail("x"), audit(4)])
        reserve.map(items, limit=2)
        while audit(5):
            mail("again")
        match amount:
            case 1:
                ship("one")
            case _:
                pass
        total = mail("a") if items else None
        with reserve("lock"):
            total = total or audit(6)
        order.outcome(items, 1)
        return reserve.plain("nothing"), {reserve(k): mail(k) for k in items}, [2 * i for i in items]

    assert squeezed(order.graph()) == dedent("""\
        order
          reserve  < undo
          reserve  < undo
          if amount > 1000:
            audit
          elif amount:
            ship  point of no return
          else:
            audit
          pack:
            for item in items:
              reserve  < undo
          except (OSError, ValueError):
            mail  cannot be undone
          audit
          at the same time:
            | reserve  < undo
            | mail  cannot be undone
              audit
          for each, at the same time:
            reserve  < undo
          while audit(5):
            audit
            mail  cannot be undone
          case 1:
            ship  point of no return
          if items:
            mail  cannot be undone
          reserve  < undo
          or …:
            audit
          order  again
          for k in items:
            reserve  < undo
            mail  cannot be undone""")


def test_async_sagas_methods_and_local_functions_are_read_too():
    """What stands in a class, in the body, or is gathered."""

    class Shop:
        @step(compensate=undo)
        async def sell(self, item):
            return item

        @saga
        async def day(self, items):
            async def branch():
                await self.sell(1)

            @step
            def local(x):
                return reserve(x)

            @saga
            def inner():
                local(1)

            await asyncio.gather(branch(), self.sell(2))
            async for item in items:
                await self.sell(item)
            await aio.parallel(*(self.sell(i) for i in items), branch)
            await aio.parallel(*items)
            local(3)
            inner()
            async with items:
                pass

    for graph in (Shop.day.graph(), Shop().day.graph()):
        assert squeezed(graph) == dedent("""\
            Shop.day
              at the same time:
                | Shop.sell  < undo
                | Shop.sell  < undo
              for item in items:
                Shop.sell  < undo
              at the same time:
                | for i in items:
                    Shop.sell  < undo
                | Shop.sell  < undo
              local
              inner:
                local
            (the branches *items are not shown: they are only known at run time)""")


def test_what_is_passed_on_to_be_called_is_shown_as_such(tmp_path, monkeypatch):
    """Lambdas, steps and functions that others call; conditions of comprehensions; functions of other modules."""
    (tmp_path / "stock.py").write_text(
        "import sagadsl\n\n@sagadsl.step\ndef count(x): ...\n\ndef take(x):\n    count(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import stock

    @saga
    def order(items):
        def inside():
            audit(1)

        asyncio.to_thread(reserve, 1)
        sorted(items, key=lambda item: audit(item))
        map(inside, items)
        stock.take(1)
        json.dumps(items, default=len)
        return [item for item in items if audit(item) for more in reserve(item)]

    assert squeezed(order.graph()) == dedent("""\
        order
          by asyncio.to_thread:
            reserve  < undo
          if it is called:
            audit
          by map:
            audit
          count
          for item in items:
            audit
            reserve  < undo""")


def test_a_name_means_what_it_means_there():
    """Another name for a step is that step; a parameter or a local value of a step's name is none."""

    @saga
    def order(audit, items):
        again = reserve.using(key="b")
        again(1)
        audit(2)
        mail = audit
        mail(3)
        twice = ship
        twice(4)

    assert squeezed(order.graph()) == dedent("""\
        order
          reserve  < undo
          ship  point of no return""")


def test_functions_of_one_text_are_read_each_for_itself():
    """A text says nothing without what its names mean."""

    def caller(act):
        def call():
            act(1)

        return call

    one, other = caller(reserve), caller(audit)

    @saga
    def order():
        one()
        other()

    assert squeezed(order.graph()) == "order\n  reserve  < undo\n  audit"


def test_the_example_draws_itself():
    """A saga of a real program, whose steps are methods and functions of several modules."""
    from sagadsl.examples.order.saga import place_order

    assert squeezed(place_order.graph()) == dedent("""\
        place_order
          reserve_inventory  < release_inventory
          charge_payment  < refund_payment
          if amount > AUDITED_ABOVE:
            audit  cannot be undone
          send_confirmation  < send_cancellation
          schedule_delivery  < cancel_delivery""")


def test_code_through_which_there_are_many_ways_is_drawn_small(tmp_path, monkeypatch):
    """Functions are read once, long rows folded, and what lies too deep is named."""
    calls = "\n".join(f"def f{n}():\n    f{n + 1}()\n    f{n + 1}()\n    f{n + 1}()" for n in range(5))
    sagas = "\n".join(f"@sagadsl.saga\ndef s{n}():\n    s{n + 1}()\n    s{n + 1}()" for n in range(7))
    text = f"import sagadsl\n{calls}\n@sagadsl.step\ndef f5(): ...\ndef s7(): ...\n{sagas}\n"
    (tmp_path / "mesh.py").write_text(f"{text}\n@sagadsl.saga\ndef many():\n    f4()\n    f0()\n    s0()\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mesh

    drawn = text_of(mesh.many.graph())
    assert any("… " in line and "more" in line for line in drawn)
    assert any(line.split()[-3:] == ["and", "so", "on"] for line in drawn)
    assert len(drawn) < 300


def test_code_that_cannot_be_read_is_said():
    """Nothing is guessed, and nothing is called."""
    names = {"saga": saga, "reserve": reserve}
    exec("@saga\ndef typed(x):\n    reserve(x)\n", names)  # noqa: S102  # as one types it
    assert text_of(names["typed"].graph()) == ["typed", "(what typed calls is not shown: its code cannot be read)"]
    assert "cannot be read" in names["typed"].graph().svg()
    assert "cannot be read" in names["typed"].graph().dot()
    assert "cannot be read" in names["typed"].graph().mermaid()


def test_a_plan_knows_its_graph():
    """Each node with those that it waits for; a saga or a plan in it is a box. A saga that calls a plan shows it."""
    rest = Plan("rest")
    rest.add(audit, 1)
    plan = Plan("order")
    bed, rug = plan.add(reserve, "bed"), plan.add(reserve, "rug")
    plan.add(pack, bed, after=[rug])
    plan.add(rest)
    plan.add(mail, rug)

    @saga
    def night():
        plan()

    assert squeezed(plan.graph()) == dedent("""\
        order
          reserve  < undo
          reserve#2  < undo
          pack:  after reserve, reserve#2
            for item in items:
              reserve  < undo
          rest:
            audit
          mail  cannot be undone; after reserve#2""")
    assert text_of(night.graph())[:2] == ["night", "  order:"]
    assert plan._repr_mimebundle_().keys() == night._repr_mimebundle_().keys() == {
        "text/plain", "text/html", "image/svg+xml",
    }  # fmt: skip
    drawn = plan.graph().mermaid()
    names = dict(re.findall(r"(n\d+)\[\"(\S+?)\"\]", drawn))
    forth = {(names.get(a, a), names.get(b, b)) for a, b in re.findall(r"(\w+) --> (\w+)", drawn)}
    assert {("begin", "reserve"), ("begin", "reserve#35;2"), ("reserve", "reserve"), ("begin", "audit")} <= forth


def test_the_way_back_through_a_plan_passes_what_has_no_compensation():
    """From each that has one to the nearest before it."""
    call = {name: Call(label=name, back=f"-{name}" if name in "abd" else "") for name in "abcde"}
    graph = of_plan("p", [*call.values()], [[], [], [0, 1], [2], [3]])
    back = re.findall(r"(\w+) -> (\w+) \[style=dashed.*label=\"(\S+)\"", graph.dot())
    assert back == [("n4", "n1", "-a"), ("n4", "n2", "-b"), ("finish", "n4", "-d")]


# -- of runs ----------------------------------------------------------------------------------------------------------


def at(seconds):
    return START + timedelta(seconds=seconds)


def done(key, begun, over, **more):
    return StepInfo(key=key, name=key.rpartition("/")[2], status="done", started=at(begun), ended=at(over), **more)


def test_a_run_is_drawn_as_it_went():
    """Children as boxes, branches and whatever overlapped side by side, each with its status."""
    held = {"saga": True, "branch": True}
    run = trip(
        Status.COMPENSATED,
        flight("compensated", compensation_attempts=1),
        evolve(done("parallel", 1, 4, **held), status="completed"),
        evolve(done("parallel/1", 1, 4, **held), status="completed"),
        evolve(done("parallel/2", 1, 3, **held), status="completed"),
        done("parallel/1/a", 1, 2),
        done("parallel/2/b", 1, 3, compensation="unb"),
        done("parallel/1/c", 2, 4),
        evolve(done("pack", 4, 6, saga=True), status="completed"),
        done("pack/x", 4, 6),
        done("pack/y", 5, 6, standing=True),
        hotel("failed", attempts=2, started=at(7), ended=at(8)),
    )
    assert squeezed(of_run(run)) == dedent("""\
        trip trip/7f3a01020304
          - flight  compensated · 120 ms  < cancel_flight
          at the same time:
            | + a  done · 1.0 s
              + c  done · 2.0 s
            | + b  done · 2.0 s  < unb
          + pack:
            at the same time:
              | + x  done · 2.0 s
              | + y  done · 1.0 s · cannot be undone
          x hotel  failed · 1.0 s · 2 attempts  < cancel_hotel
        - compensated""")


def test_a_long_run_is_folded_in_its_picture_too():
    graph = of_run(long_run(10_000))
    assert len(text_of(graph)) < 150
    assert len(graph.svg()) < 200_000


@pytest.mark.parametrize("name", RUNS)
def test_every_run_has_a_picture_in_every_format(name, tmp_path):
    graph = of_run(RUNS[name][0])
    assert drawn_by_graphviz(graph)
    for ending in ("svg", "mmd", "mermaid", "dot", "gv", "txt"):
        graph.save(tmp_path / f"a.{ending}")
        assert (tmp_path / f"a.{ending}").read_text("utf-8").strip()
    with pytest.raises(ValueError, match=r"saved as \.svg"):
        graph.save(tmp_path / "a.png")


def test_a_run_and_its_saga_answer_with_their_graphs(runtime):
    """The same names in both; the picture is what a notebook shows."""

    @saga(runtime=runtime)
    def trip(to):
        reserve(to)
        audit(to)

    trip("Rome")
    (run,) = runtime.runs()
    assert isinstance(run.graph(), Graph)
    assert isinstance(trip.graph(), Graph)
    assert [line.split()[0] for line in text_of(trip.graph())][1:] == ["reserve", "audit"]
    assert [line.split()[1] for line in text_of(run.graph())][1:3] == ["reserve", "audit"]
    assert repr(run.graph()) == str(run.graph())
    assert run.graph()._repr_mimebundle_()["image/svg+xml"] == run.graph().svg()


# -- pictures ---------------------------------------------------------------------------------------------------------


def drawn_by_graphviz(graph):
    """Return what Graphviz itself reads: nodes with labels, boxes and edges."""
    ended = subprocess.run(["dot", "-Tjson"], input=graph.dot(), capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
    return json.loads(ended.stdout)


labels = st.text(min_size=1, max_size=8).map(lambda text: "".join(c if c.isprintable() else "�" for c in text))
calls = st.builds(
    Call,
    label=labels,
    tone=st.sampled_from(["good", "bad", "doubt", "busy", "back", "calm"]),
    words=labels | st.just(""),
    back=labels | st.just(""),
)


def meshes(inner):
    def mesh(blocks):
        needs = [
            st.lists(st.integers(0, at - 1), max_size=3, unique=True) if at else st.just([])
            for at in range(len(blocks))
        ]
        return st.tuples(*needs).map(lambda places: Mesh(tuple(blocks), tuple(map(tuple, places))))

    return st.lists(inner, min_size=1, max_size=6).flatmap(mesh)


def composed(inner):
    some = st.lists(inner, min_size=1, max_size=4).map(tuple)
    boxes = st.builds(Box, label=labels, inner=inner | st.just(Series()), maybe=st.booleans())
    return st.builds(Series, some) | st.builds(Fork, some, st.booleans()) | boxes | meshes(inner)


blocks = st.recursive(calls | st.builds(More, labels), composed, max_leaves=14)


def leaves(block):
    if isinstance(block, Call | More):
        return [block]
    return leaves(block.inner) if isinstance(block, Box) else [leaf for each in block.blocks for leaf in leaves(each)]


@given(blocks)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_in_a_picture_nothing_lies_on_anything_else(block):
    """Nodes and pills are apart, within the picture and within their boxes, whatever the tree."""
    drawn = ET.fromstring(Graph(title="t", block=block).svg())  # noqa: S314  # ours
    whole = float(drawn.get("width")), float(drawn.get("height"))
    kinds = {"s-node": [], "s-pill": [], "s-box": []}
    for each in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, wide, high = (float(each.get(name) or 0) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= whole[0] + 1
        assert 0 <= y <= y + high <= whole[1] + 1
        kind = each.get("class").split()[0]
        if kind in kinds:
            kinds[kind].append((x, y, x + wide, y + high))
    solid = kinds["s-node"] + kinds["s-pill"]
    assert len(kinds["s-node"]) == 1 + sum(isinstance(leaf, Call) for leaf in leaves(block))
    for at_, one in enumerate(solid):
        for other in solid[:at_]:
            assert one[2] <= other[0] + 1 or other[2] <= one[0] + 1 or one[3] <= other[1] + 1 or other[3] <= one[1] + 1
    for box in kinds["s-box"]:
        for one in solid:
            inside = box[0] <= one[0] and one[2] <= box[2] and box[1] <= one[1] and one[3] <= box[3]
            apart = one[2] <= box[0] + 1 or box[2] <= one[0] + 1 or one[3] <= box[1] + 1 or box[3] <= one[1] + 1
            assert inside or apart


@given(blocks)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_graphviz_reads_what_was_meant(block):
    """Every label letter for letter, whatever is in it; each node once, and none alone."""
    graph = Graph(title="t", block=block)
    found = drawn_by_graphviz(graph)
    named = {each["name"]: each["label"] for each in found["objects"] if each["name"].startswith("n")}
    shown = [unescaped(label) for label in named.values() if label != "·"]
    meant = [f"… {leaf.words}" if isinstance(leaf, More) else told(leaf) for leaf in leaves(block)]
    assert sorted(shown) == sorted(meant)


def told(call):
    return f"{call.label} ({call.words})" if call.words else call.label


def unescaped(label):
    """Return a label as Graphviz draws it: entities and backslashes have had their meaning."""
    return re.sub(r"\\(.)", r"\1", label).replace("&amp;", "&")


@given(texts)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_hostile_name_is_only_a_name(text):
    """In SVG it is text, in Mermaid it is within its quotes, in DOT too."""
    graph = of_run(evolve(long_run(3, text), id=text, saga=text))
    drawn = ET.fromstring(graph.svg())  # noqa: S314  # ours
    assert {each.tag.rpartition("}")[2] for each in drawn.iter()} <= {
        "svg",
        "style",
        "title",
        "rect",
        "path",
        "circle",
        "text",
    }
    assert all(name in NAMES for each in drawn.iter() for name in each.keys())  # noqa: SIM118  # an element is no dict
    for line in graph.mermaid().splitlines():
        assert re.fullmatch(MERMAID, line), line
    for line in graph.dot().splitlines():
        assert re.fullmatch(r'[^"]*("([^"\\]|\\.)*"[^"]*)*', line)


TAGS = {"svg", "style", "title", "rect", "path", "circle", "text"}
NAMES = {
    "class", "viewBox", "width", "height", "role", "x", "y", "rx", "d", "cx", "cy", "r", "text-anchor",
}  # fmt: skip
QUOTED = r'"[^"`<>&\\|\[\]{}\n]*"'
SHAPE = rf"\[{QUOTED}\]|\(\({QUOTED}\)\)|\(\[{QUOTED}\]\)"
MERMAID = (
    rf"flowchart TB|  %% {QUOTED}|\s+(subgraph )?\w+({SHAPE})(:::\w+)?|\s+end|  \w+ --> \w+"
    rf"|  \w+ -\. {QUOTED} \.->? \w+|  classDef \w+ stroke:#\w+,stroke-width:2px"
)


def test_measures_are_those_of_what_is_drawn():
    """A block in a row is as wide as its row."""
    narrow, wide = Call(label="a"), Call(label="a" * 40, back="b")
    assert measure(Series((narrow, wide))).width == measure(wide).width
    assert measure(Series()).height == 0
