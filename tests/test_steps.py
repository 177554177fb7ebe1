"""What a step is: plain outside, recorded inside, a leaf; what it receives and what its compensation receives."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

import sagadsl
from sagadsl import Compensation, Live, Retry, UsageError, saga, step


@step(compensate=None)
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


@saga
def doubled(number: int) -> int:
    """Double it in a saga."""
    return double(number)


def test_outside_a_saga_a_step_is_the_plain_function(world):
    """Nothing is journaled, nothing is copied, `current()` has a fresh idempotency key and no run."""
    seen = []

    @step(compensate=None)
    def look(thing: object) -> object:
        seen.append(sagadsl.current())
        return thing

    thing = object()
    assert look(thing) is thing
    assert look(thing) is thing
    first, second = seen
    assert first.run_id is None
    assert first.run is None
    assert first.idempotency_key != second.idempotency_key


def test_a_decorated_function_keeps_name_signature_and_docstring():
    """What tools see of it is the function's own."""
    assert double.__name__ == "double"
    assert double.__doc__ == "Double a number."
    assert list(inspect.signature(double).parameters) == ["number"]
    assert double.plain(4) == 8


def test_a_decorated_coroutine_function_is_one():
    """Colour is kept."""

    @step(compensate=None)
    async def wait(seconds: float) -> float:
        return seconds

    assert inspect.iscoroutinefunction(wait)


def test_decorated_functions_pickle_by_name_and_copy_as_themselves():
    """They are functions, and functions travel by name."""
    for function in (double, doubled):
        assert pickle.loads(pickle.dumps(function)) is function  # noqa: S301
        assert copy.copy(function) is function
        assert copy.deepcopy(function) is function


class Shop:
    def __init__(self) -> None:
        self.sold: list[str] = []

    @step(compensate=None)
    def pay(self, item: str) -> None:
        self.sold.append(item)

    @saga
    def sell(self, item: str) -> None:
        self.pay(item)

    @classmethod
    @step(compensate=None)
    def reserve(cls) -> type:
        return cls


def test_a_decorated_method_copies_as_a_method_does(runtime):
    """Deeply, with a copy of its instance; without one it is itself."""
    shop = Shop()
    for method in (Shop.pay, Shop.sell, Shop.reserve, shop.pay, shop.sell):
        assert copy.copy(method) == method
    assert copy.deepcopy([Shop.pay, Shop.sell]) == [Shop.pay, Shop.sell]
    assert copy.deepcopy(Shop.reserve)() is Shop
    other, pay, sell = copy.deepcopy((shop, shop.pay, shop.sell))
    pay("lamp")
    sell.using(runtime=runtime)("bed")
    assert (shop.sold, other.sold) == ([], ["lamp", "bed"])


def test_inside_a_saga_a_step_returns_a_copy(colour, runtime, world):
    """Changing what a step returned changes nothing recorded."""

    @colour.step(compensate=lambda items: world.add(f"-{'+'.join(items)}"))
    def fetch() -> list[str]:
        return ["a"]

    @colour.saga(runtime=runtime)
    def collect():
        items = yield fetch()
        items.append("b")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        colour.call(collect)
    assert world == ["-a"]


def test_arguments_reach_the_compensation_as_they_were_when_the_step_was_called(colour, runtime, world):
    """A body that changes a list afterwards does not change what is undone."""

    @colour.step(compensate=lambda items: world.add(f"-{'+'.join(items)}"))
    def send(items: list[str]) -> None:
        world.add("+".join(items))

    @colour.saga(runtime=runtime)
    def flow():
        items = ["a"]
        yield send(items)
        items.append("b")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        colour.call(flow)
    assert world == ["a", "-a"]


def test_a_compensation_receives_what_it_names(colour, runtime, world):
    """Arguments by name, the result, the fault, and the key that the step used."""
    seen: dict[str, Any] = {}
    keys = []

    def undo(item, result, error, idempotency_key, note="kept"):
        seen.update(item=item, result=result, error=error, key=idempotency_key, note=note)

    @colour.step(compensate=undo)
    def reserve(item: str, quantity: int) -> dict[str, int]:
        keys.append(sagadsl.current().idempotency_key)
        return {item: quantity}

    @colour.saga(runtime=runtime)
    def order():
        yield reserve("lamp", 2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        colour.call(order)
    assert seen["item"] == "lamp"
    assert seen["result"] == {"lamp": 2}
    assert (seen["error"].type, seen["error"].message) == ("builtins:ValueError", "no")
    assert seen["key"] == keys[0]
    assert seen["note"] == "kept"


def test_live_arguments_are_passed_as_they_are_and_never_stored(colour, runtime, world):
    """Neither by annotation nor by option, nor in the file's bytes."""

    class Session:
        def add(self, what: str) -> None:
            world.add(what)

    def undo(session, secret, what):
        session.add(f"-{what}-{secret}")

    @colour.step(compensate=undo, live=("secret",))
    def send(session: Live[Session], what: str, secret: str) -> None:
        session.add(what)

    @colour.saga(runtime=runtime, live=("session",))
    def flow(session: Any, what: str):
        yield send(session, what, secret="hunter2")  # noqa: S106
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        colour.call(flow, Session(), "mail")
    assert world == ["mail", "-mail-hunter2"]
    assert runtime.runs()[0].steps[0].arguments == {"what": "mail"}
    assert all(b"hunter2" not in path.read_bytes() for path in world.path.parent.glob("sagas.db*"))


def test_methods_static_and_class_methods_are_steps(runtime, world):
    """`self` and `cls` are live; a compensation that is a method gets them."""

    class Shop:
        def __init__(self, name: str) -> None:
            self.name = name

        def release(self, item):
            world.add(f"-{self.name}-{item}")

        @step(compensate=release)
        def reserve(self, item: str) -> str:
            world.add(f"{self.name}-{item}")
            return item

        @step(compensate=None)
        @staticmethod
        def audit(item: str) -> None:
            world.add(f"audit-{item}")

        @step(compensate=None)
        @classmethod
        def count(cls, item: str) -> str:
            world.add(f"{cls.__name__}-{item}")
            return item

        @saga(runtime=runtime)
        def order(self, item: str) -> None:
            self.reserve(item)
            Shop.audit(item)
            self.count(item)
            raise ValueError("stop")

    for shop in (Shop("north"), Shop("south")):
        with pytest.raises(ValueError, match="stop"):
            shop.order("lamp")
    assert world == [
        *("north-lamp", "audit-lamp", "Shop-lamp", "-north-lamp"),
        *("south-lamp", "audit-lamp", "Shop-lamp", "-south-lamp"),
    ]
    assert Shop("west").reserve("bed") == "bed"
    assert Shop("west").reserve.plain("bed") == "bed"


def test_a_method_has_the_same_names_more_as_a_function(runtime, world):
    """`using`, `outcome`, `resume` and `plain` know their instance."""

    class Shop:
        @step(compensate=None)
        def sell(self, item: str) -> str:
            if item == "cut" and sagadsl.current().attempt == 1:
                raise KeyboardInterrupt
            return item

        @saga(runtime=runtime)
        def order(self, item: str) -> str:
            return self.sell.using(key=item)(item)

    shop = Shop()
    assert shop.order.outcome("lamp").value == "lamp"
    assert shop.order.plain("lamp") == "lamp"
    with pytest.raises(KeyboardInterrupt):
        shop.order.using(key="k")("cut")
    run = runtime.find("Shop.order/k")
    with pytest.raises(UsageError, match=r"saga Shop\.order needs the live argument self, which is a Shop: import"):
        run.resume()
    assert shop.order.resume(run.id) == "cut"
    assert [s.key for s in run.refresh().steps] == ["Shop.sell:cut"]


def test_failed_attempts_are_tried_again_with_growing_waits(colour, runtime, world, clock):
    """`retries` counts extra attempts; each is recorded, and keeps the idempotency key."""
    keys = set()

    @colour.step(compensate=None, retries=3)
    def unsteady() -> str:
        keys.add(sagadsl.current().idempotency_key)
        world.add(f"try{sagadsl.current().attempt}")
        if sagadsl.current().attempt < 4:
            raise ConnectionError
        return "ok"

    @colour.saga(runtime=runtime)
    def flow():
        return (yield unsteady())

    assert colour.call(flow) == "ok"
    assert world == ["try1", "try2", "try3", "try4"]
    assert clock.slept == [0.1, 0.2, 0.4]
    assert len(keys) == 1
    assert runtime.runs()[0].steps[0].attempts == 4


def test_retries_obey_on_and_give_up_on(colour, runtime, world, clock):
    """Only what matches `on` is tried again, and never what matches `give_up_on`."""

    @colour.step(compensate=None, retries=Retry(5, on=OSError, give_up_on=lambda e: "final" in str(e), wait=2))
    def unsteady(what: str) -> None:
        world.add(what)
        raise (OSError if sagadsl.current().attempt == 1 else ValueError)(what)

    @colour.saga(runtime=runtime)
    def flow(what: str):
        yield unsteady(what)

    with pytest.raises(ValueError, match="first"):
        colour.call(flow, "first")
    with pytest.raises(OSError, match="final"):
        colour.call(flow, "final")
    assert world == ["first", "first", "final"]
    assert clock.slept == [2]


def test_a_read_only_step_writes_one_entry_and_is_not_asked_again(colour, make_runtime, world):
    """Its value is the recorded one on resume."""
    kinds = []
    runtime = make_runtime(observers=(lambda entry: kinds.append(str(entry.kind)),))

    @colour.step(read_only=True)
    def look() -> int:
        world.add("look")
        return 7

    @colour.step(compensate=None)
    def act(number: int) -> None:
        if sagadsl.current().attempt == 1:
            raise KeyboardInterrupt
        world.add(f"act{number}")

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield act((yield look()))

    with pytest.raises(KeyboardInterrupt):
        colour.call(flow)
    colour.call(flow)
    assert world == ["look", "act7"]
    assert kinds == ["opened", "done", "intent", "taken", "intent", "done", "completed"]


def test_now_random_and_uuid4_are_recorded(colour, runtime):
    """A second look gives the first values."""

    @colour.saga(runtime=runtime, key="k")
    def flow():
        yield None
        return sagadsl.now(), sagadsl.random(), sagadsl.uuid4()

    first = colour.call(flow)
    assert colour.call(flow) == first
    assert first[0].tzinfo is not None
    assert 0 <= first[1] < 1


def test_a_step_inside_a_step_is_refused_and_the_cure_is_named(colour, runtime):
    """A step is a leaf, and so is a compensation."""

    @colour.step(compensate=None)
    def outer() -> Any:
        return double(2)

    @colour.saga(runtime=runtime)
    def flow():
        return (yield outer())

    with pytest.raises(UsageError, match=r"double\.plain"):
        colour.call(flow)


def test_a_saga_inside_a_step_is_refused(colour, runtime):
    """A saga belongs in a saga."""

    @colour.step(compensate=None)
    def outer() -> Any:
        return doubled(2)

    @colour.saga(runtime=runtime)
    def flow():
        return (yield outer())

    with pytest.raises(UsageError, match="doubled is called inside step outer"):
        colour.call(flow)


def test_an_async_step_in_a_sync_saga_is_refused(runtime):
    """Nobody could await it."""

    @step(compensate=None)
    async def wait() -> None:
        """Wait."""

    @saga(runtime=runtime)
    def flow() -> None:
        wait()

    with pytest.raises(UsageError, match="make the saga an async def"):
        flow()


def test_a_step_with_another_compensation_for_one_call(colour, runtime, world):
    """`using()` gives the same step other options."""

    @colour.step(compensate=lambda name: world.add(f"-{name}"))
    def act(name: str) -> None:
        world.add(name)

    @colour.saga(runtime=runtime)
    def flow():
        yield act.using(compensate=Compensation(lambda name: world.add(f"other-{name}")))("a")
        yield act.using(key="second", compensate=None)("b")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        colour.call(flow)
    assert world == ["a", "b", "other-a"]
    assert [s.key for s in runtime.runs()[0].steps] == [f"{act.__name__}", "act:second"]


def test_the_current_position_is_known_in_body_step_and_compensation(colour, runtime):
    """In a step it has key, attempt and idempotency key; a compensation has a key of its own."""
    seen = []

    def look() -> None:
        here = sagadsl.current()
        seen.append((here.run_id, here.key, here.attempt, here.idempotency_key, here.run.status))

    @colour.step(compensate=lambda: look())
    def act() -> None:
        look()

    @colour.saga(runtime=runtime, name="flow", key="k")
    def flow():
        assert sagadsl.current().run_id == "flow/k"
        assert sagadsl.current().key is None
        yield act()
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        colour.call(flow)
    assert seen == [
        ("flow/k", "act", 1, "flow/k/act", "open"),
        ("flow/k", "act", 1, "flow/k/act/compensation", "compensating"),
    ]
