"""The house has floors, and an import may only point down. When this fails the code moves, not the table."""

import ast
import re
import textwrap
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sagadsl
from sagadsl import _core, report

HOUSE = Path(sagadsl.__file__).parent

FLOORS = {
    "_core.phrases": -1, "_core.structs": -1,  # the cellar: the errors stand on it
    "errors": 0, "_core.later": 0, "_core.digests": 0, "_core.awaiting": 0, "_core.live": 0,
    "_core.values": 1, "_core.retry": 1, "_core.schema": 1, "_core.parameters": 1, "_core.session": 1,
    "_core.figures": 1,
    "_core.state": 2, "_core.codec": 2, "_core.effects": 2, "_core.journal": 2, "_core.definition": 2,
    "report": 2,
    "_core.scope": 3, "_core.ownership": 3, "_core.provided": 3, "_core.landed": 3,
    "_core.settings": 3, "_core.shown": 3,
    "_core.flow": 4, "_core.drive": 4, "_core.history": 4, "_core.describe": 4, "_core.registry": 4,
    "_core.supply": 4, "_core.threads": 4, "_core.upkeep": 4, "_core.observers": 4,
    "_core.runtime": 5,
    "_dsl": 6,
    "": 7, "aio": 7,
    "llm": 8, "testing": 8, "check": 8, "engines": 8, "plan": 8, "otel": 8,
    "examples": 9,  # programs of users, who use all of the above
    "cli": 10, "notebook": 10,
}  # fmt: skip
SAME_ROOM = {"__main__": "cli", "aio": ""}
"""``python -m sagadsl`` is the command line, and ``aio`` a part of the front door."""

FRONT_DOOR, OUTSIDE, FACES = 7, 8, 10


def room_of(module):
    """Return the room that a module (``sagadsl._core.codec.faults``) belongs to: the longest name in the table."""
    inside = module.removeprefix("sagadsl").lstrip(".")
    path = SAME_ROOM.get(inside, inside).split(".")
    for length in range(len(path), 0, -1):
        if ".".join(path[:length]) in FLOORS:
            return ".".join(path[:length])
    return "" if path in ([""], ["_core"]) else None


def modules(house):
    """Return the source of every module of a house, by name."""
    found = {}
    for path in sorted(house.rglob("*.py")):
        parts = ["sagadsl", *path.relative_to(house).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = (
            path.read_text(encoding="utf-8"),
            path.name,
        )
    return found


def imports(module, source, name, known):
    """Yield each module of ours that a module imports, and the name it takes from there (or `None`)."""
    package = module if name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "sagadsl")
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            target = ".".join([*above, *([node.module] if node.module else [])])
            if target.split(".")[0] != "sagadsl":
                continue
            for alias in node.names:
                inner = f"{target}.{alias.name}"
                yield (inner, None) if inner in known else (target, alias.name)


def faults(found):
    """Return every import that does not point down, and every circle inside a room."""
    wrong = []
    inside = {module: set() for module in found}
    for module, (source, name) in found.items():
        room = room_of(module)
        if room is None or (module == "sagadsl._core" and source.count("import") > 1):
            wrong.append(f"{module} is on no floor")
            continue
        floor = FLOORS[room]
        for target, taken in imports(module, source, name, found):
            there = room_of(target)
            if there is None:
                wrong.append(f"{module} -> {target}, which is on no floor")
            elif there == room:
                inside[module].add(target)
            elif floor < OUTSIDE and FLOORS[there] >= floor and not is_door(room, there, target):
                wrong.append(f"{module} ({floor}) -> {target} ({FLOORS[there]})")
            elif floor >= OUTSIDE and not is_public(floor, there, taken):
                wrong.append(f"{module} ({floor}) -> {target}: {taken} is not public")
    try:
        list(TopologicalSorter({m: ts - {m} for m, ts in inside.items()}).static_order())
    except CycleError as error:
        wrong.append(f"a circle: {' -> '.join(error.args[1])}")
    return wrong


def is_door(room, there, target):
    """``__init__`` and ``aio`` are one door, on one floor; they know each other only as names."""
    return FLOORS[room] == FRONT_DOOR and there == "aio" and target == "sagadsl.aio"


def is_public(floor, there, taken):
    """Tell whether something outside the core is asked for by a name that is meant for everybody."""
    if there == "":
        return taken is None or taken in sagadsl.__all__
    if there in {"aio", "errors"}:
        return taken is None or not taken.startswith("_")
    if there == "report":
        return taken is None or taken in report.__all__
    return FLOORS[there] < floor and FLOORS[there] >= OUTSIDE and not (taken or "").startswith("_")


def test_the_map_at_the_door_of_the_core_names_every_room():
    """Who looks for a room finds it by what it answers, and none that is not there."""
    named = re.findall(r"``(\w+)``", _core.__doc__)
    assert sorted(named) == sorted(room.removeprefix("_core.") for room in FLOORS if room.startswith("_core."))


def test_every_import_points_down():
    """Floors, neighbours that never meet, no circle, and only public names above the front door."""
    assert faults(modules(HOUSE)) == []


SYNTHETIC = {
    "upward": ("_core/codec/faults.py", "from sagadsl._core.scope import Scope", "(2) -> sagadsl._core.scope (3)"),
    "a neighbour": ("_core/flow/calls.py", "import sagadsl._core.drive", "(4) -> sagadsl._core.drive (4)"),
    "for types only": (
        "_core/state.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sagadsl._core.runtime import Runtime",
        "(2) -> sagadsl._core.runtime (5)",
    ),
    "in a function": ("errors.py", "def f():\n    import sagadsl", "(0) -> sagadsl (7)"),
    "relative": ("_core/values.py", "from .state import fold", "(1) -> sagadsl._core.state (2)"),
    "relative, a package up": ("_core/codec/faults.py", "from ..flow import perform", "(2) -> sagadsl._core.flow (4)"),
    "of a module": ("_core/retry.py", "from sagadsl._core import codec", "(1) -> sagadsl._core.codec (2)"),
    "a private name": ("llm.py", "from sagadsl._core.codec import Codec", "Codec is not public"),
    "a name nobody exports": ("cli/show.py", "from sagadsl import Codec", "Codec is not public"),
    "a private room of report": ("testing/kit.py", "from sagadsl.report.words import width", "width is not public"),
    "no floor": ("attic.py", "", "sagadsl.attic is on no floor"),
    "to no floor": ("errors.py", "import sagadsl.attic", "sagadsl.attic, which is on no floor"),
    "a circle": ("_core/codec/faults.py", "from sagadsl._core.codec import Codec", "a circle"),
}


@pytest.mark.parametrize("case", sorted(SYNTHETIC))
def test_an_import_that_does_not_point_down_is_found(case, tmp_path):
    """The judge can say no: in any form an import can have."""
    path, source, expected = SYNTHETIC[case]
    house = {
        "_core/codec/__init__.py": "from sagadsl._core.codec.faults import x", "_core/codec/faults.py": "",
        "_core/scope.py": "",
        "_core/flow/calls.py": "", "_core/drive.py": "", "_core/state.py": "", "_core/__init__.py": "",
        "__init__.py": "",
    }  # fmt: skip
    for name, text in (house | {path: source}).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    (found,) = faults(modules(tmp_path))
    assert expected in found


def test_everything_of_ours_is_on_a_floor():
    """The table names no room twice and forgets none."""
    assert {room_of(module) for module in modules(HOUSE)} <= set(FLOORS)
