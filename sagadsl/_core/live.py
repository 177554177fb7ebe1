"""Which annotations say that an argument is live: passed as it is, and never written down.

Nothing else tells a secret, so every way to say it counts: under another name, in a union or an alias, beside other
notes, and as text, also where the rest of that text means nothing when the program runs (``if TYPE_CHECKING:``). Where
it is `Live` itself that is imported for type checkers only, ``Live[...]`` is taken at its word; a mere ``Live`` that
nothing defines yet may as well be a class of the program's own.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any, ForwardRef, Literal, TypeVar, get_origin

T = TypeVar("T")


class _Live:
    def __repr__(self) -> str:
        return "Live"


LIVE = _Live()
Live = Annotated[T, LIVE]
"""``session: Live[Session]`` is passed as it is and never stored; type checkers see ``Session``."""

UNRESOLVED: dict[str, Any] = {"Live": Live, "Literal": Literal, "Annotated": Annotated}
"""What a name that only a type checker can look up means in front of brackets."""

INNER = ("__origin__", "__supertype__", "__value__")
"""Where an alias or a `typing.NewType` has what it stands for."""


def says_live(annotation: Any, names: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is `Live`, or anything it is made of; *names* are those that a text can mention."""
    pending, seen = [annotation], {}
    while pending:
        each = pending.pop()
        if isinstance(each, type):
            continue
        if isinstance(each, ForwardRef):
            each = each.__forward_arg__
        key = each if isinstance(each, str) else id(each)
        if key in seen:  # an alias may mention itself
            continue
        seen[key] = each  # kept, so that no other gets its id
        if isinstance(each, str):
            pending += _mentioned(_parsed(each), names)
        elif any(map(_is_mark, getattr(each, "__metadata__", ()))):
            return True
        elif get_origin(each) is not Literal:
            pending += getattr(each, "__args__", ())
            pending += [getattr(each, name) for name in INNER if hasattr(each, name)]
    return False


def names_of(function: Any) -> dict[str, Any]:
    """Return the names of the module whose text a function's annotations are; a wrapper may have them from another."""
    inner = inspect.unwrap(function)
    own, module = getattr(inner, "__globals__", {}), sys.modules.get(getattr(inner, "__module__", None) or "")
    said = getattr(module, "__dict__", own)
    return own if said is own else own | said


def names_around(function: Any) -> Mapping[str, Any]:
    """Return what the annotations of a function can mention: its module's names, and those of what it stands in.

    A function or class whose body runs at this moment, as it does while it decorates, is asked for its own.
    """
    inner, names = inspect.unwrap(function), names_of(function)
    *owners, _ = getattr(inner, "__qualname__", "").split(".")
    if not owners:
        return names
    found, around, owner = dict(names), [], names
    for name in owners:
        owner = getattr(owner.get(name), "__dict__", {})
        found |= owner
    frame = sys._getframe()  # noqa: SLF001  # a text is no closure: nothing else leads to these names
    while frame is not None:
        is_around = inner.__qualname__.startswith(f"{frame.f_code.co_qualname}.")
        if is_around and frame.f_globals.get("__name__") == inner.__module__:
            around.append(frame.f_locals)
        frame = frame.f_back  # type: ignore[assignment]
    for each in reversed(around):
        found |= each
    return found


def _is_mark(note: Any) -> bool:
    return note is LIVE or note is Live


@lru_cache
def _parsed(text: str) -> ast.expr:
    """Return an annotation as it reads; of a text that does not, its ``Live[``."""
    try:
        return ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError):
        return _parsed("Live[None]") if re.search(r"\bLive\[", text) else ast.Constant(None)


def _mentioned(node: ast.AST, names: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what the parts of an annotation are, and those that are texts again."""
    if isinstance(node, ast.Name | ast.Attribute):
        yield _meaning(node, names)
        return
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
        return
    parts = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Subscript):
        head = _taken_for(node.value, names)
        if head is Literal:
            return
        yield head
        if head is Annotated and isinstance(node.slice, ast.Tuple):
            first, *notes = node.slice.elts
            parts = [first]
            yield from (Live for note in notes if _is_mark(_taken_for(note, names)))
    for part in parts:
        yield from _mentioned(part, names)


def _taken_for(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """Return what stands before brackets or is a note, hence no mere class: an unknown name is taken at its word."""
    words = ast.unparse(node).split(".")
    return _meaning(node, names) if words[0] in names else UNRESOLVED.get(words[-1])


def _meaning(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """Return what a name or attribute is, if anything."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        with suppress(Exception):  # as where the whole is evaluated: it says nothing
            return getattr(_meaning(node.value, names), node.attr)
    return None
