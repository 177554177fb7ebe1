"""``Plan``: a saga built at run time, from data, as a graph of steps. It stands on the public names alone.

A node is a call to be made; a node among its arguments means its result, and comes first. Each node is a branch of one
block, begun as soon as what it needs has ended, so independent ones run at the same time, and a resumed plan enters no
finished one again. `graphlib` knows what a cycle is.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Generator, Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

import attrs

from sagadsl import Completed, Saga, Step, UsageError, aio, outcome, parallel, saga
from sagadsl.report import Box, Graph, call_of, of_plan


@attrs.define(eq=False, repr=False)
class Node:
    """A call that a plan makes: *name* is its function's, numbered where it comes again."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    needs: dict[Node, None]

    def __repr__(self) -> str:
        return f"<node {self.name}>"

    def after(self, *nodes: Node) -> Node:
        """Have this node wait for others, whose results it does not take; return it."""
        self.needs.update(dict.fromkeys(nodes))
        return self


class Plan:
    """A saga made of nodes; called, it returns their results by name.

    Args:
        name: The saga's stable name.
        limit: How many nodes run at once, by default all that can.
        settings: What ``saga("name", ...)`` takes: *key*, *id*, *store*, *on_failure* and the others.

    A plan with an ``async def`` among its nodes is awaited. Called inside a saga it is a child of it; added to another
    plan it is a node of that. The same nodes must be added in the same order for an interrupted run to go on.
    """

    def __init__(self, name: str, *, limit: int | None = None, **settings: Any) -> None:
        self.name, self._limit, self._settings = name, limit, settings
        self._nodes: list[Node] = []
        saga(name, **settings)  # what cannot work is told on this line

    def __repr__(self) -> str:
        return f"<plan {self.name!r} of {len(self._nodes)} nodes>"

    @property
    def is_async(self) -> bool:
        """It has to be awaited."""
        return any(_is_async(node.function) for node in self._nodes)

    def add(
        self, function: Callable[..., Any], /, *args: Any, after: Node | Iterable[Node] | None = None, **kwargs: Any
    ) -> Node:
        """Add a call of a step, a saga or another plan; a node as argument means its result.

        It also waits for the node or nodes that it comes *after*.

        Raises:
            UsageError: It is none of these, what it waits for is no node of this plan, or a node is inside an argument.
        """
        if not isinstance(function, Plan | Step | Saga):
            msg = f"{self.name}: a node is a step, a saga or a plan, not {function!r:.80}; decorate it with @step"
            raise UsageError(msg)
        base = function.name if isinstance(function, Plan) else function.__name__
        given = (*args, *kwargs.values())
        needs = [each for each in given if isinstance(each, Node)]
        for node in _inside([each for each in given if not isinstance(each, Node)]):
            msg = f"{self.name}: {node.name} is inside an argument of {base}, where a node does not become its result; "
            msg += f"give it as an argument of its own, to a def {base}(*results)"
            raise UsageError(msg)
        needs += after if isinstance(after, Iterable) else [] if after is None else [after]
        self._refuse_strangers(needs)
        count = sum(node.name.partition("#")[0] == base for node in self._nodes) + 1
        node = Node(base if count == 1 else f"{base}#{count}", function, args, kwargs, dict.fromkeys(needs))
        self._nodes.append(node)
        return node

    def _refuse_strangers(self, needs: Iterable[Any]) -> None:
        for each in needs:
            if not isinstance(each, Node):
                msg = f"{self.name}: a node waits for nodes, as add() returns them, not for {each!r:.80}"
                raise UsageError(msg)
            if each not in self._nodes:
                msg = f"{self.name}: {each.name} is a node of another plan; add that plan, and take its results"
                raise UsageError(msg)

    def graph(self) -> Graph:
        """Return its nodes and what each of them waits for: a `Graph` to be looked at, or saved.

        Raises:
            UsageError: Its nodes wait for each other in a circle.
        """
        self._refuse_circles()
        places = {node: place for place, node in enumerate(self._nodes)}
        needs = [[places[each] for each in node.needs] for node in self._nodes]
        return of_plan(self.name, [_block(node) for node in self._nodes], needs)

    def _sagadsl_block(self) -> Any:
        return Box(label=self.name, inner=self.graph().block)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002  # IPython's
        return self.graph()._repr_mimebundle_()

    def __call__(self) -> Any:
        """Run it as a saga; return the results by node name, or an awaitable of them.

        Raises:
            UsageError: Its nodes wait for each other in a circle.
            Exception: What a node failed with, after compensation; an ``ExceptionGroup`` where several did.
        """
        self._refuse_circles()
        return (self._acall if self.is_async else self._call)(saga(self.name, **self._settings))

    def outcome(self) -> Any:
        """Run it as a saga; return how it ended, or an awaitable of that: what `Saga.outcome` returns.

        Raises:
            UsageError: Its nodes wait for each other in a circle.
            SagaError: What is no outcome, as for a saga.
        """
        self._refuse_circles()
        block = saga(self.name, **self._settings)
        if self.is_async:
            return self._aoutcome(block)
        try:
            return Completed(self._call(block), run=block.info)
        except Exception as error:  # noqa: BLE001  # whatever a node raised
            return outcome_of(error)

    async def _aoutcome(self, block: Any) -> Any:
        try:
            return Completed(await self._acall(block), run=block.info)
        except Exception as error:  # noqa: BLE001  # as above
            return outcome_of(error)

    def _refuse_circles(self) -> None:
        for node in self._nodes:
            self._refuse_strangers(node.needs)  # `Node.after` knows no plan
        try:
            TopologicalSorter({node: node.needs for node in self._nodes}).prepare()
        except CycleError as error:
            circle = " -> ".join(node.name for node in error.args[1])
            msg = f"{self.name}: these nodes wait for each other: {circle}"
            raise UsageError(msg) from None

    def _call(self, block: Any) -> dict[str, Any]:
        turn = threading.Semaphore(self._limit or max(1, len(self._nodes)))
        course = Course(self._nodes, threading.Event)

        def branch(node: Node) -> None:
            for each in node.needs:
                course.ended[each].wait()
            with course.call(node) as call, turn:
                course.results[node] = call()

        with block, telling_failures():
            parallel(*(lambda node=node: branch(node) for node in self._nodes))
        return course.by_name()

    async def _acall(self, block: Any) -> dict[str, Any]:
        turn = asyncio.Semaphore(self._limit or max(1, len(self._nodes)))
        course = Course(self._nodes, asyncio.Event)

        async def branch(node: Node) -> None:
            for each in node.needs:
                await course.ended[each].wait()
            with course.call(node) as call:
                async with turn:
                    value = call()
                    course.results[node] = await value if inspect.isawaitable(value) else value

        async with block:
            with telling_failures():
                await aio.parallel(*(branch(node) for node in self._nodes))
        return course.by_name()


class Course:
    """One run of a plan: what has ended, and with what result."""

    def __init__(self, nodes: list[Node], event: Callable[[], Any]) -> None:
        self.ended = {node: event() for node in nodes}
        self.results: dict[Node, Any] = {}

    @contextlib.contextmanager
    def call(self, node: Node) -> Generator[Callable[[], Any]]:
        """Give what a node calls, and tell those that wait when it has ended.

        Raises:
            LeftOut: It lacks a result. Its branch has not come to its end then: a resumed run may yet call it.
        """

        def made() -> Any:
            def given(value: Any) -> Any:
                return self.results[value] if isinstance(value, Node) else value

            return node.function(*map(given, node.args), **{name: given(value) for name, value in node.kwargs.items()})

        try:
            if any(each not in self.results for each in node.needs):
                raise LeftOut
            yield made
        finally:
            self.ended[node].set()

    def by_name(self) -> dict[str, Any]:
        """Return the results by node name, in the order in which the nodes were added."""
        return {node.name: self.results[node] for node in self.ended}


class LeftOut(Exception):  # noqa: N818  # no error: what it needs has failed, and tells of that itself
    """A node is not called because one that it needs has failed."""


@contextlib.contextmanager
def telling_failures() -> Generator[None]:
    """Let through what nodes failed with, without those that were left out because of it."""
    error: Exception | None = None
    try:
        yield
    except ExceptionGroup as group:
        failed = [each for each in group.exceptions if not isinstance(each, LeftOut)]
        error = group
        if len(failed) < len(group.exceptions):
            error = failed[0] if len(failed) == 1 else ExceptionGroup(f"{len(failed)} nodes failed", failed)
    if error is not None:
        raise error


def outcome_of(error: Exception) -> Any:
    """Return how a plan ended that raised *error*, or raise that again, if it is no outcome."""
    try:
        return outcome(error)
    except UsageError:
        raise error from error.__cause__


def _inside(value: Any) -> Generator[Node]:
    """Yield the nodes in a collection."""
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple | set | frozenset | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _inside(each)


def _block(node: Node) -> Any:
    """Return what a node is in a graph."""
    function: Any = node.function
    if isinstance(function, Plan | Saga):
        return Box(label=node.name, inner=function.graph().block)
    whole = getattr(function, "_self_parent", None) or function  # of a method
    return call_of(whole._self_spec, node.name)  # noqa: SLF001  # no public one


def _is_async(function: Any) -> bool:
    return function.is_async if isinstance(function, Plan) else inspect.iscoroutinefunction(function)
