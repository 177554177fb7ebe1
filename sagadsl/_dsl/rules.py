"""Rules that are written once, for both colours: generators that ask whoever follows them to have a function called.

What happens around a run (notifying of its end, resuming it) has an order and its exceptions in a ``def`` and in
an ``async def`` alike; only who awaits differs. So the rules yield a function and whether what it gives is to be
awaited, and get its value back, or what it raised, thrown in. What they return is what following them returns.

A saga's own way from its call to its end (``running``) stands there for each colour: a Ctrl-C at any of its lines is to
find, in the very frame that it hits, the ``finally`` that lets the run go; and as rules it comes out no shorter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, TypeVar

T = TypeVar("T")
Rules = Generator[tuple[Callable[[], Any], bool], Any, T]


def follow(rules: Rules[T]) -> T:
    """Make the calls that the rules ask for, in a ``def``; what is to be awaited gets an event loop of its own."""
    with closing(rules):
        try:
            function, is_async = next(rules)
            while True:
                try:
                    value = asyncio.run(function()) if is_async else function()
                except BaseException as error:  # noqa: BLE001  # the rules decide
                    function, is_async = rules.throw(error)
                else:
                    function, is_async = rules.send(value)
        except StopIteration as end:
            returned: T = end.value
            return returned


async def afollow(rules: Rules[T]) -> T:
    """Make the calls that the rules ask for, in an ``async def``; what is not to be awaited gets a thread."""
    with closing(rules):
        try:
            function, is_async = next(rules)
            while True:
                try:
                    value = await (function() if is_async else asyncio.to_thread(function))
                except BaseException as error:  # noqa: BLE001  # the rules decide
                    function, is_async = rules.throw(error)
                else:
                    function, is_async = rules.send(value)
        except StopIteration as end:
            returned: T = end.value
            return returned
