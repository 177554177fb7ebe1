"""However an annotation says that an argument is live, it is: nothing else tells a secret from what is stored."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Literal, NewType, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

import sagadsl as sg  # noqa: F401  # in texts
from sagadsl import Live
from sagadsl import Live as L  # noqa: N817  # as others may
from sagadsl._core.live import says_live
from sagadsl._core.parameters import Parameters

MARKER = "hunter2-never-on-disk"
Hidden = Live[str]
Json = dict[str, "Json"] | list["Json"] | str
JsonOrHidden = list["JsonOrHidden"] | Live[str]
"""Aliases that mention themselves."""


if TYPE_CHECKING:
    from vault import Token

AT_RUN_TIME = """
from typing import TYPE_CHECKING, Annotated, Annotated as A, Final, Literal, Literal as Lit, Optional, Union
import sagadsl, sagadsl as sg
from sagadsl import Live, Live as L
Hidden = Live[str]
if TYPE_CHECKING:
    import vault
    from vault import Token, Seq
"""
FOR_CHECKERS = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from typing import Annotated, Final, Literal, Optional, Union
    import sagadsl, sagadsl as sg, vault
    from sagadsl import Live
    from vault import Token, Seq
"""
SUBJECTS = ["str", "Token", "vault.Token", "list[Token]", "str | None", "'Token'", "Literal['a']"]
AROUND = [
    "{}", "{} | None", "None | {}", "Optional[{}]", "Union[int, {}, None]", "Annotated[{}, 'from the vault']",
    "Final[{}]", "list[{}]", "Seq[{}]", "({})", " {} ", "'{}' | None", "Optional['{}']", "{}  # of the vault",
]  # fmt: skip
PLACES = [
    "def push(token: {}): ...\n",
    "class Api:\n    @staticmethod\n    def push(token: {}): ...\npush = Api.push\n",
    "class Api:\n    My = {}\n    @looked\n    def push(token: 'My | None'): ...\n",
    "def outer():\n    My = {}\n    @looked\n    def push(token: 'My | None'): ...\nouter()\n",
    "class Api:\n    My = {}\n    @staticmethod\n    def push(token: 'My'): ...\npush = Api.push\n",
]
"""Where a function stands; in the last three an alias stands beside it."""


few = settings(max_examples=60, deadline=None)


def spelled(heads: list[str], alone: list[str]) -> st.SearchStrategy[str]:
    """Give spellings of what may be said of a parameter: a head of a subject, or what stands alone, and around it."""
    of = st.builds(lambda head, subject: f"{head}[{subject}]", st.sampled_from(heads), st.sampled_from(SUBJECTS))
    around = st.lists(st.sampled_from(AROUND), max_size=3)
    return st.builds(wrapped, of | st.sampled_from(alone), around)


def wrapped(text: str, around: list[str]) -> str:
    """Put things around a spelling, as far as its quotes allow that."""
    for each in around:
        if "'{}'" not in each or "'" not in text:
            text = each.format(text.partition("#")[0])
    return text


def live_in(header: str, place: str, text: str) -> frozenset[str]:
    """Return which parameters are live of a function with such an annotation; one that makes no sense is a text."""
    found: list[Any] = []
    names: dict[str, Any] = {"looked": lambda function: found.append(Parameters.of(function))}
    try:
        exec(header + place.format(text.strip()), names)  # noqa: S102
    except (NameError, TypeError, SyntaxError):  # the type checker's names, outside of a text
        exec(header + place.format(repr(text)), names)  # noqa: S102
    return (found[0] if found else Parameters.of(names["push"])).live


def test_a_parameter_is_live_however_it_is_spelled():
    """As an alias, quoted, optional, annotated further; with names that are there for type checkers only."""
    heads, reached = ["Live", "L", "sagadsl.Live", "sg.Live"], set()

    @few
    @given(spelled(heads, [*heads, "Hidden", "A[Token, Live]"]), st.sampled_from(PLACES))
    def at_run_time(text: str, place: str) -> None:
        for future in ("", "from __future__ import annotations"):
            assert live_in(future + AT_RUN_TIME, place, text) == {"token"}
        reached.add(place)

    @few
    @given(spelled(["Live", "sagadsl.Live", "sg.Live"], ["Annotated[Token, Live]"]), st.sampled_from(PLACES[:2]))
    def for_checkers(text: str, place: str) -> None:
        assert live_in(FOR_CHECKERS, place, text) == {"token"}

    at_run_time()
    for_checkers()
    assert reached == set(PLACES)


def test_what_only_looks_like_it_is_stored():
    """A text among values or notes, and what another library calls so."""
    own = "class Live:\n    def __class_getitem__(cls, item): return cls\nclass Rich: Live = Live\n"
    texts = [
        "Literal['Live']",
        "Lit['Live', 'Paper']",
        "Annotated[Token, 'Live[str]']",
        "A[str, 'Live']",
        "Delivery",
        "Liv",
    ]

    @few
    @given(st.sampled_from(PLACES[:2]), spelled(["list", "Seq", "Liv"], ["list", "Seq", "Liv", *texts]))
    def no_mark(place: str, text: str) -> None:
        for future in ("", "from __future__ import annotations"):
            assert live_in(future + AT_RUN_TIME, place, text) == set()

    @few
    @given(st.sampled_from(PLACES[:2]), spelled(["Live", "Rich.Live"], ["Live", "Rich.Live"]))
    def another(place: str, text: str) -> None:
        assert live_in(AT_RUN_TIME + own, place, text) == set()

    @few
    @given(st.sampled_from(PLACES[:2]), spelled(["list"], ["Live", "Live | Paper", "Live or Paper", "Token.Live"]))
    def not_defined_yet(place: str, text: str) -> None:
        assert live_in(FOR_CHECKERS.replace("import Live", "import Paper"), place, text) == set()

    no_mark()
    another()
    not_defined_yet()


@pytest.mark.parametrize(
    ("annotation", "is_live"),
    [
        (Live, True),
        (ForwardRef("L[Token]"), True),
        (NewType("Key", Hidden), True),
        (TypeAliasType("Key", Hidden), True),
        (Annotated[str, Live], True),
        ("Annotated[Token, L]", True),
        (Optional["L[Token]"], True),
        (JsonOrHidden, True),
        ("Live[Token", True),
        ("vault.Live[Token]", True),
        ("Literal.Live[Token]", False),
        ("a Live one", False),
        (Json, False),
        (NewType("Key", str), False),
        (TypeAliasType("Key", str), False),
        (Literal["Live"], False),
        (Annotated[str, "Live"], False),
        ("Annotated[str]", False),
        ("Token[1](Live=2).Life", False),
        ("some Liveliness", False),
        ("", False),
    ],
    ids=str,
)
def test_whatever_stands_for_another_annotation_is_looked_through(annotation, is_live):
    """Types with names of their own, references, aliases that mention themselves; what does not read is not trusted."""
    assert says_live(annotation, globals()) is is_live


def test_a_function_behind_a_decorator_is_asked_for_its_own_names():
    """Where a wrapper has the texts of another module, and where it says what it takes by its signature alone."""
    elsewhere: dict[str, Any] = {"functools": functools}
    exec("def logged(f, **how):\n    return functools.wraps(f, **how)(lambda *args: f(*args))", elsewhere)  # noqa: S102

    def push(url: str, token: L[Token]): ...

    assert Parameters.of(elsewhere["logged"](push)).live == {"token"}
    assert Parameters.of(elsewhere["logged"](push, assigned=("__qualname__",))).live == {"token"}


SPELLED = [
    Live[str] | None, Optional["Live[str]"], "L[Token]", "sg.Live[Token]", " Live[Token]",
    "Annotated[Live[Token], 'from the vault']", "Live[Token] | None", "'Live[Token]' | None", "Hidden",
]  # fmt: skip


@pytest.mark.parametrize("annotation", SPELLED, ids=str)
def test_a_secret_is_on_no_disk_however_it_is_said_to_be_one(annotation, colour, runtime, world):
    """A step, the step's compensation and a saga get it; nothing of it is stored, shown or part of a call."""

    def secret(function):
        function.__annotations__["token"] = annotation
        return function

    def drop(url, token):
        world.add(f"-{url}:{token == MARKER}")

    @secret
    def push(url: str, token=None) -> str:
        world.add(f"{url}:{token == MARKER}")
        return url

    @secret
    def sync(url: str, token=None):
        yield pushed(url, token)
        raise ConnectionError("no answer")

    pushed = colour.step(push, compensate=drop, name="push")
    synced = colour.saga(sync, name="sync", runtime=runtime)
    with pytest.raises(ConnectionError, match="no answer"):
        colour.call(synced, "ftp", MARKER)
    assert world == ["ftp:True", "-ftp:True"]
    (run,) = runtime.runs()
    assert [run.arguments, *(each.arguments for each in run.steps)] == [{"url": "ftp"}, {"url": "ftp"}]
    files = [path for path in Path(world.path).parent.iterdir() if path.is_file()]
    assert "sagas.db-wal" in {path.name for path in files}
    assert [path.name for path in files if MARKER.encode() in path.read_bytes()] == []
