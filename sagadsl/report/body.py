"""The graph of a saga from its code: what its body calls, in which order, under which conditions.

Only the text is read, with `ast`; nothing is called. What a name means is told by who knows the program, as `Known`. A
body is plain Python, so its graph is what can be seen: calls, conditions, loops, branches. What cannot be seen is said.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from attrs import Factory, define, frozen

from sagadsl.report.blocks import LABEL, Block, Box, Call, Fork, More, Series, is_empty, joined
from sagadsl.report.graph import MOST, Graph
from sagadsl.report.story import Gap, folded
from sagadsl.report.words import printable

DEEPEST = 6
"""How many sagas and functions inside each other are looked into."""


@frozen(kw_only=True)
class Known:
    """What a name stands for: a step or a plan, of which the *block* is known, or a function with a body of its own.

    *code* is the text of its *function*, and *look* tells what the names in it mean; without a *code* that can be read,
    nobody knows what it calls. *is_saga*: what it calls belongs together. *is_branching*: it calls what it is given at
    the same time.
    """

    name: str
    block: Block | None = None
    function: Any = None
    code: str | None = None
    look: Callable[[str], Known | None] = lambda _: None
    is_saga: bool = False
    is_branching: bool = False


def of_code(known: Known) -> Graph:
    """Return the graph of a saga as its code has it."""
    reader = Reader(known.look, [known.name])
    block = reader.function(known)
    return Graph(title=printable(known.name, LABEL), block=block, notes=tuple(dict.fromkeys(reader.notes)))


@define(eq=False)
class Reader:
    """Reads one function: *look* tells what a name in it means, *around* are those that it is called in.

    What is *read* already is not read again: there are more ways through functions than functions. *local* are those
    that stand in this one, and *other* names for what is called: ``again = reserve.using(key="b")``.
    """

    look: Callable[[str], Known | None]
    around: list[str]
    notes: list[str] = Factory(list)
    read: dict[Any, Block] = Factory(dict)
    local: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = Factory(dict)
    other: dict[str, Known] = Factory(dict)

    def function(self, known: Known) -> Block:
        """Return what a function calls."""
        tree = parsed(known.code)
        if tree is None:
            self.notes.append(f"what {known.name} calls is not shown: its code cannot be read")
            return joined(())
        if known.function not in self.read:
            self.read[known.function] = Reader(known.look, self.around, self.notes, self.read).rows(tree.body)
        return self.read[known.function]

    def rows(self, statements: Iterable[ast.stmt]) -> Block:
        """Return what statements call, one after the other."""
        found = joined(block for each in statements for block in self.statement(each) if not is_empty(block))
        if not isinstance(found, Series):
            return found
        few = folded(found.blocks, MOST, lambda _: False, lambda left: Gap(f"{len(left):,} more"))
        return Series(tuple(More(each.words) if isinstance(each, Gap) else each for each in few))

    # -- statements ---------------------------------------------------------------------------------------------------

    def statement(self, node: ast.stmt) -> Iterator[Block]:
        """Yield what a statement calls."""
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.local[name] = node
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if known := self.meaning(self.called(value)[0]):
                self.other[name] = known
            case ast.With() | ast.AsyncWith():
                yield from self.inner([item.context_expr for item in node.items])
                yield self.rows(node.body)
            case ast.For() | ast.AsyncFor():
                yield from self.expression(node.iter)
                yield self.maybe(f"for {shown(node.target)} in {shown(node.iter)}", self.rows(node.body))
                yield self.rows(node.orelse)
            case ast.While(test=test):
                yield self.maybe(f"while {shown(test)}", joined([*self.expression(test), self.rows(node.body)]))
                yield self.rows(node.orelse)
            case ast.If() | ast.Match() | ast.Try() | ast.TryStar():
                yield from self.cases(node)
            case _ if not isinstance(node, ast.ClassDef):
                yield from self.inner(ast.iter_child_nodes(node))

    def inner(self, nodes: Iterable[ast.AST]) -> Iterator[Block]:
        """Yield what expressions call, one after the other."""
        for each in nodes:
            if isinstance(each, ast.expr):
                yield from self.expression(each)

    def cases(self, node: ast.If | ast.Match | ast.Try | ast.TryStar) -> Iterator[Block]:
        """Yield what a statement calls of which one part or another is done."""
        match node:
            case ast.If(test=test):
                yield from self.expression(test)
                yield self.either([(f"if {shown(test)}", node.body), *self.otherwise(node.orelse)])
            case ast.Match(subject=subject):
                yield from self.expression(subject)
                yield self.either([(f"case {shown(each.pattern)}", each.body) for each in node.cases])
            case _:
                yield self.rows([*node.body, *node.orelse])
                caught = [f"except {shown(each.type)}" if each.type else "except" for each in node.handlers]
                yield self.either([*zip(caught, (each.body for each in node.handlers), strict=True)])
                yield self.rows(node.finalbody)

    def otherwise(self, body: list[ast.stmt]) -> Iterator[tuple[str, list[ast.stmt]]]:
        """Yield the other cases of an ``if``."""
        match body:
            case [ast.If(test=test, body=inner, orelse=orelse)]:
                yield f"elif {shown(test)}", inner
                yield from self.otherwise(orelse)
            case [_, *_]:
                yield "else", body

    def either(self, cases: Sequence[tuple[str, list[ast.stmt]]]) -> Block:
        """Return cases of which one is taken."""
        boxes = [box for label, body in cases if not is_empty(box := self.maybe(label, self.rows(body)))]
        return Fork(tuple(boxes), all=False) if len(boxes) > 1 else joined(boxes)

    def maybe(self, label: str, inner: Block) -> Block:
        """Return what is done under a condition, or more than once."""
        return inner if is_empty(inner) else Box(label=printable(label, LABEL), inner=inner, maybe=True)

    # -- expressions --------------------------------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> Iterator[Block]:
        """Yield what an expression calls, in the order in which Python does."""
        match node:
            case ast.Call():
                yield from self.calls(node)
            case ast.Lambda(body=body):  # it is called elsewhere, or never
                yield self.maybe("if it is called", joined(self.expression(body)))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                yield from self.expression(test)
                one, other = joined(self.expression(body)), joined(self.expression(orelse))
                boxes = [self.maybe(f"if {shown(test)}", one), self.maybe("else", other)]
                boxes = [box for box in boxes if not is_empty(box)]
                yield Fork(tuple(boxes), all=False) if len(boxes) > 1 else joined(boxes)
            case ast.BoolOp(op=operator, values=[first, *others]):
                yield from self.expression(first)
                word = "and" if isinstance(operator, ast.And) else "or"
                yield self.maybe(f"{word} …", joined(b for each in others for b in self.expression(each)))
            case (
                ast.ListComp(generators=generators)
                | ast.SetComp(generators=generators)
                | ast.GeneratorExp(generators=generators)
                | ast.DictComp(generators=generators)
            ):
                over = generators[0]
                yield from self.expression(over.iter)
                parts = [condition for each in generators for condition in each.ifs]
                parts += [each.iter for each in generators[1:]]
                parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
                yield self.maybe(f"for {shown(over.target)} in {shown(over.iter)}", joined(self.inner(parts)))
            case _:
                yield from self.inner(ast.iter_child_nodes(node))

    def calls(self, node: ast.Call) -> Iterator[Block]:
        """Yield what a call calls: its arguments first, then what its name means."""
        function, how = self.called(node.func)
        known = self.meaning(function)
        if known is not None and known.is_branching:
            yield self.branches(node.args)
            return
        yield from self.inner([*node.args, *(keyword.value for keyword in node.keywords)])
        if isinstance(function, ast.Name) and function.id in self.local:
            yield self.defined_here(function.id)
        elif known is None or how == "plain":
            yield from self.inner(ast.iter_child_nodes(node.func))  # ``reserve(item).upper()``
            yield from self.passed_on(node)
        elif how == "map":
            yield Box(label="for each, at the same time", inner=self.block(known), maybe=True)
        else:
            yield self.block(known)

    def passed_on(self, node: ast.Call) -> Iterator[Block]:
        """Yield what a function may call that it is given: ``asyncio.to_thread(reserve, item)``."""
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(each, ast.Name) and each.id in self.local:
                yield self.maybe(f"by {shown(node.func)}", self.defined_here(each.id))
            elif (known := self.meaning(each)) is not None and not known.is_branching:
                yield self.maybe(f"by {shown(node.func)}", self.block(known))

    def called(self, function: ast.expr) -> tuple[ast.expr, str]:
        """Return what is called, and how: ``trip.using(...).outcome(...)`` calls trip."""
        how = ""
        while True:
            match function:
                case ast.Attribute(value=inner, attr="outcome" | "map" | "plain" as word) if self.meaning(inner):
                    function, how = inner, how or word
                case ast.Call(func=ast.Attribute(value=inner, attr="using")) if self.meaning(inner):
                    function = inner
                case _:
                    return function, how

    def meaning(self, function: ast.expr) -> Known | None:
        """Return what a dotted name stands for."""
        name = dotted(function)
        if name is None or name.partition(".")[0] in self.local:
            return None
        return self.other.get(name) or self.look(name)

    def block(self, known: Known) -> Block:
        """Return what a call of a known name is in the graph."""
        if known.block is not None:
            return known.block
        if known.is_saga and known.name in self.around:
            return Call(label=printable(known.name, LABEL), words="again")
        inner = self.inside(known.name, lambda: self.function(known))
        return Box(label=printable(known.name, LABEL), inner=inner) if known.is_saga else inner

    def defined_here(self, name: str) -> Block:
        """Return what a function calls that stands in the body itself; one that is decorated is a step or a saga."""
        node = self.local[name]
        words = {(dotted(each.func if isinstance(each, ast.Call) else each) or "") for each in node.decorator_list}
        if {word.rpartition(".")[2] for word in words} & {"step"}:
            return Call(label=printable(name, LABEL))
        inner = self.inside(name, lambda: self.rows(node.body))
        return Box(label=printable(name, LABEL), inner=inner) if words else inner

    def inside(self, name: str, read: Callable[[], Block]) -> Block:
        """Read what is called inside of something, unless that is where we are."""
        if name in self.around or len(self.around) > DEEPEST:
            return Call(label=printable(name, LABEL), words="again" if name in self.around else "and so on")
        self.around.append(name)
        try:
            return read()
        finally:
            self.around.pop()

    def branches(self, arguments: Sequence[ast.expr]) -> Block:
        """Return what the branches of ``parallel`` or ``gather`` call."""
        found: list[Block] = []
        for each in arguments:
            match each:
                case ast.Starred(
                    value=ast.GeneratorExp(generators=[first, *_], elt=part)
                    | ast.ListComp(generators=[first, *_], elt=part)
                ):
                    label = f"for {shown(first.target)} in {shown(first.iter)}"
                    found.append(self.maybe(label, self.branch(part)))
                case ast.Starred(value=value):
                    self.notes.append(f"the branches *{shown(value)} are not shown: they are only known at run time")
                case _:
                    found.append(self.branch(each))
        found = [block for block in found if not is_empty(block)]
        return Fork(tuple(found)) if len(found) > 1 else joined(found)

    def branch(self, node: ast.expr) -> Block:
        """Return what one branch calls: a function without arguments, or something to be awaited."""
        if isinstance(node, ast.Lambda):
            return joined(self.expression(node.body))
        known = self.meaning(node)
        if isinstance(node, ast.Name) and node.id in self.local:
            return self.defined_here(node.id)
        return self.block(known) if known is not None else joined(self.expression(node))


def parsed(code: str | None) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the function whose text this is, if it is that of one."""
    text = code or ""
    try:
        match ast.parse(f"if True:\n{text}" if text[:1].isspace() else text).body:
            case [ast.FunctionDef() | ast.AsyncFunctionDef() as found]:
                return found
            case [ast.If(body=[ast.FunctionDef() | ast.AsyncFunctionDef() as found])]:
                return found
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    return None


def dotted(node: ast.expr) -> str | None:
    """Return a name with its dots, `None` of anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=name):
            before = dotted(inner)
            return None if before is None else f"{before}.{name}"
    return None


def shown(node: ast.AST) -> str:
    """Return code on one line, as short as a label."""
    return printable(ast.unparse(node), LABEL)
