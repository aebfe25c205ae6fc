from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smol.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.sdk import Attachment
from smol.types import Json
from smol.units.executor.calls import Outcome
from smol.units.executor.engine import Engine
from smol.units.executor.journal import Memory
from smol.units.executor.program import Limits, Step, parse


class Lab:
    """A port whose operations are functions; remembers what was called."""

    def __init__(self, **operations: Callable[..., Any]) -> None:
        self.operations = operations
        self.called: list[tuple[str, dict[str, Any], str]] = []
        self.happening: list[tuple[str, Json]] = []
        self.busy = self.busiest = 0

    async def call(self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float, key: str) -> Json:
        name = operation.partition(".")[2]
        self.called.append((name, dict(arguments), key))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await asyncio.sleep(0)
            result = self.operations[name](**arguments)
            return await result if asyncio.iscoroutine(result) else result
        finally:
            self.busy -= 1

    async def stream(
        self, operation: str, arguments: Mapping[str, Any], *, within_seconds: float
    ) -> AsyncGenerator[Json, None]:
        try:
            async for item in self.operations[operation.partition(".")[2]](**arguments):
                yield item
        finally:
            self.called.append((operation.partition(".")[2], dict(arguments), "closed"))

    async def events(self, topic: str) -> AsyncGenerator[tuple[str, Json], None]:
        self.called.append((topic, {}, "subscribed"))
        try:
            for event in self.happening:
                await asyncio.sleep(0)
                yield event
            if self.happening:
                await asyncio.Event().wait()
        finally:
            self.called.append((topic, {}, "closed"))

    async def memory_bytes(self, operation: str) -> int:
        return 7 << 20

    async def uses(self, operation: str, arguments: Mapping[str, Any]) -> list[str]:
        return [str(arguments["through"])] if "through" in arguments else []

    async def is_idempotent(self, operation: str) -> bool:
        return not operation.endswith("_once")


class CutOff(Memory):
    """A journal that remembers what began, as a durable one does."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.outcomes: dict[str, Outcome] = {}

    def ended(self, path: str) -> Outcome | None:
        return self.outcomes.get(path)

    async def end(self, path: str, outcome: Outcome, attempts: int) -> None:
        self.outcomes[path] = outcome

    def begun_ms(self, path: str) -> int | None:
        return self.begun.get(path)

    async def begin(self, path: str, step: Step, given: Json, *, durable: bool) -> None:
        if durable:
            self.begun[path] = 0


class Naps:
    """Sleeps that take no time."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


async def run(
    text: str, lab: Lab, given: Json = None, journal: Memory | None = None, naps: Naps | None = None, **more: Any
) -> Json:
    limits = more.pop("limits", Limits())
    program = parse(text, limits).program
    engine = Engine(
        program,
        lab,
        journal or Memory(),
        limits,
        run="r",
        sleep=naps or Naps(),
        allowed=more.pop("allowed", ("*",)),
    )
    return await engine.run(given)


def failing(times: int, error: SmolError) -> Callable[[], int]:
    left = [times]

    def answer() -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return 7

    return answer


async def test_results_flow_from_step_to_step() -> None:
    lab = Lab(add=lambda a, b: a + b)
    text = """
steps:
  - {id: one, call: lab.add, with: {a: "${{ input.n }}", b: 1}}
  - {id: two, call: lab.add, with: {a: "${{ steps.one }}", b: 10}}
  - return: {sum: "${{ steps.two }}", text: "one is ${{ steps.one }}"}
"""
    assert await run(text, lab, {"n": 1}) == {"sum": 12, "text": "one is 2"}


async def test_an_attachment_is_handed_on_as_it_is() -> None:
    photo = Attachment(b"x", "image/png")
    lab = Lab(see=lambda image: {"image": image})
    text = 'steps: [{id: a, call: lab.see, with: {image: "${{ input.p }}"}}, {return: "${{ steps.a.image }}"}]'
    assert await run(text, lab, {"p": photo}) is photo


async def test_an_if_that_is_false_skips_its_step() -> None:
    lab = Lab(hit=lambda: 1)
    text = 'steps: [{id: a, if: "${{ input.go }}", call: lab.hit}, {return: "${{ steps.a }}"}]'
    assert await run(text, lab, {"go": False}) is None
    assert lab.called == []
    assert await run(text, lab, {"go": True}) == 1


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_for_each_keeps_the_order_and_the_bound(parallelism: int) -> None:
    lab = Lab(double=lambda n: 2 * n)
    text = f"""
steps:
  - for_each: "${{{{ input }}}}"
    parallelism: {parallelism}
    do: [{{call: lab.double, with: {{n: "${{{{ item }}}}"}}}}]
"""
    assert await run(text, lab, list(range(20))) == [2 * n for n in range(20)]
    assert lab.busiest == parallelism


async def test_the_failure_of_a_branch_is_the_failure_of_the_step_and_stops_its_siblings() -> None:
    stopped: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    lab = Lab(fail=failing(1, NotFound("gone")), forever=forever)
    text = """
steps:
  - parallel: [[{call: lab.forever}], [{call: lab.fail}]]
    catch: {on: [NOT_FOUND], do: [{return: "${{ error.message }}"}]}
"""
    assert await run(text, lab) == "gone"
    assert stopped == [True]


async def test_a_call_is_tried_again_with_growing_pauses() -> None:
    lab, naps = Lab(get=failing(3, Unavailable("off"))), Naps()
    text = "steps: [{call: lab.get, retry: {attempts: 4, wait_seconds: 1, factor: 3, longest_wait_seconds: 5}}]"
    assert await run(text, lab, naps=naps) == 7
    assert naps.taken == [1, 3, 5]
    assert len({key for _, _, key in lab.called}) == 1


async def test_a_call_that_may_have_had_its_effect_is_not_tried_again_unless_idempotent() -> None:
    for error, calls in ((Unavailable("off"), 1), (Aborted("busy"), 2)):
        lab = Lab(add_once=failing(1, error))
        text = "steps: [{call: lab.add_once, retry: {attempts: 2}}]"
        if calls == 1:
            with pytest.raises(Unavailable):
                await run(text, lab)
        else:
            assert await run(text, lab) == 7
        assert len(lab.called) == calls


async def test_a_refusal_for_want_of_room_is_waited_out_without_any_retry() -> None:
    lab, naps = Lab(get=failing(5, ResourceExhausted("full", retry_after_ms=250))), Naps()
    assert await run("steps: [{call: lab.get}]", lab, naps=naps) == 7
    assert naps.taken == [0.25] * 5
    lab = Lab(get=failing(5, ResourceExhausted("full", retry_after_ms=2000)))
    with pytest.raises(ResourceExhausted):
        await run("steps: [{call: lab.get, timeout_seconds: 1}]", lab)


async def test_a_timeout_can_be_caught() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    text = "steps: [{call: lab.forever, timeout_seconds: 0.01}]"
    with pytest.raises(DeadlineExceeded, match=r"steps\[0\]"):
        await run(text, Lab(forever=forever))


async def test_registers_and_sub_programs() -> None:
    text = """
registers: {total: 1}
programs:
  greet: [{set: {total: 5}}, {return: "hello ${{ input.name }}"}, {return: never}]
steps:
  - {id: said, program: greet, with: {name: Ada}}
  - return: ["${{ steps.said }}", "${{ registers.total }}"]
"""
    assert await run(text, Lab()) == ["hello Ada", 5]


async def _count(to: int) -> AsyncGenerator[int, None]:
    for number in range(to):
        yield number
    if to >= 100:
        await asyncio.Event().wait()  # It goes on, and nothing comes.


async def test_a_stream_is_collected_up_to_a_count_its_end_or_a_time_and_then_closed() -> None:
    lab = Lab(count=_count)
    text = "steps: [{call: lab.count, with: {to: %d}, collect: %s}]"
    assert await run(text % (50, "{items: 3}"), lab) == [0, 1, 2]
    assert await run(text % (2, "{items: 3}"), lab) == [0, 1]
    assert await run(text % (100, "{items: 1000, seconds: 0.05}"), lab) == list(range(100))
    with pytest.raises(DeadlineExceeded):
        await run("steps: [{call: lab.count, with: {to: 100}, collect: {items: 200}, timeout_seconds: 0.05}]", lab)
    assert [key for _, _, key in lab.called] == ["closed"] * 4


@pytest.mark.parametrize("parallelism", [1, 3])
async def test_the_items_of_a_stream_are_dealt_with_as_they_come(parallelism: int) -> None:
    async def source() -> AsyncGenerator[int, None]:
        for number in range(6):
            assert number - len(done) <= parallelism  # Not read ahead of those that deal with it.
            yield number

    done: list[int] = []

    def double(n: int) -> int:
        done.append(n)
        return 2 * n

    lab = Lab(source=source, double=double)
    text = """
steps:
  - for_each: {call: lab.source, collect: {items: 5}}
    parallelism: %d
    do: [{call: lab.double, with: {n: "${{ item }}"}}]
"""
    assert await run(text % parallelism, lab) == [0, 2, 4, 6, 8]
    assert lab.busiest <= parallelism
    with pytest.raises(PermissionDenied, match=r"lab\.source"):
        await run(text % parallelism, lab, allowed=("lab.double",))


async def test_a_run_that_was_cut_off_has_the_items_it_had_and_goes_on_with_new_ones() -> None:
    opened: list[int] = []
    killed: list[int] = []

    async def source() -> AsyncGenerator[int, None]:
        opened.append(1)
        for number in range(10):
            yield 100 * len(opened) + number

    def see(n: int) -> int:
        if n == 102 and not killed:
            killed.append(n)
            raise Killed
        return n

    lab, journal = Lab(source=source, see=see), CutOff()
    text = """
steps: [{for_each: {call: lab.source, collect: {items: 4}}, do: [{call: lab.see, with: {n: "${{ item }}"}}]}]
"""
    with pytest.raises(Killed):
        await run(text, lab, journal=journal)
    assert await run(text, lab, journal=journal) == [100, 101, 102, 200]


async def test_an_event_is_waited_for_until_one_fits() -> None:
    lab = Lab()
    lab.happening = [("door.open", {"who": "cat"}), ("door.open", {"who": "Ada"}), ("door.open", {"who": "Eve"})]
    text = """
steps:
  - id: seen
    wait: {event: "${{ input.topic }}", where: "${{ event.data.who == input.who }}"}
    timeout_seconds: 0.05
  - return: "${{ steps.seen.data.who }} at ${{ steps.seen.topic }}"
"""
    assert await run(text, lab, {"topic": "door.*", "who": "Ada"}) == "Ada at door.open"
    with pytest.raises(DeadlineExceeded, match=r"steps\[0\]"):
        await run(text, lab, {"topic": "door.*", "who": "nobody"})
    with pytest.raises(PermissionDenied, match="wait for window"):
        await run(text, lab, {"topic": "window", "who": "Ada"}, allowed=("door.*",))
    with pytest.raises(InvalidArgument, match="a topic, not int"):
        await run(text, lab, {"topic": 1, "who": "Ada"})
    assert [key for _, _, key in lab.called] == ["subscribed", "closed"] * 2
    lab.happening = []
    with pytest.raises(Unavailable, match="ended"):
        await run("steps: [{wait: {event: door}}]", lab)


async def test_parallelism_is_held_to_the_limit_whatever_a_program_asks() -> None:
    lab = Lab(hit=lambda: 1)
    text = 'steps: [{for_each: "${{ input }}", parallelism: 64, do: [{call: lab.hit}]}]'
    await run(text, lab, list(range(50)), limits=Limits(parallelism=3))
    assert lab.busiest == 3


async def test_sub_programs_count_as_depth() -> None:
    text = "programs: {a: [{program: b}], b: [{program: c}], c: [{return: 1}]}\nsteps: [{program: a}]"
    assert await run(text, Lab(), limits=Limits(depth=3)) == 1
    with pytest.raises(ResourceExhausted, match="nested deeper than 2"):
        await run(text, Lab(), limits=Limits(depth=2))


async def test_limits_hold() -> None:
    lab = Lab(hit=lambda: 1)
    loop = 'steps: [{for_each: "${{ input }}", do: [{call: lab.hit}]}]'
    with pytest.raises(ResourceExhausted, match="more than 10 steps"):
        await run(loop, lab, list(range(50)), limits=Limits(steps=10))
    with pytest.raises(ResourceExhausted, match="50 items"):
        await run(loop, lab, list(range(50)), limits=Limits(items=10))
    with pytest.raises(PermissionDenied, match=r"lab\.hit"):
        await run("steps: [{call: lab.hit}]", lab, allowed=("math.*",))


async def test_a_call_that_was_cut_off_is_not_made_again_and_stays_so() -> None:
    journal, lab = CutOff(), Lab(add_once=lambda: 1)
    journal.begun["steps[0]"] = 1
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="may or may not"):
            await run("steps: [{call: lab.add_once}]", lab, journal=journal)
    assert lab.called == []


async def test_a_program_calls_nothing_through_an_operation_that_it_may_not_call_itself() -> None:
    lab = Lab(put=lambda n, through: n)
    text = "steps: [{call: lab.put, with: {n: 1, through: vault.get}}]"
    with pytest.raises(PermissionDenied, match=r"lab.put calls vault.get"):
        await run(text, lab, allowed=["lab.*"])
    assert lab.called == []
    await run(text, lab, allowed=["lab.*", "vault.get"])
    assert len(lab.called) == 1


class Killed(BaseException):
    pass


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_killed_anywhere_and_run_again_a_program_ends_as_if_it_had_not_been(data: st.DataObject) -> None:
    """Kills before a call, or after its effect; only non-idempotent calls cut off may be missing."""
    text = """
steps:
  - {id: first, call: lab.put, with: {n: 0}}
  - for_each: [1, 2, 3]
    do: [{call: lab.put, with: {n: "${{ item }}"}}, {call: lab.put_once, with: {n: "${{ item }}"},
          catch: {on: [FAILED_PRECONDITION], do: [{call: lab.put, with: {n: 100}}]}}]
  - {set: {sum: 1}}
  - {id: last, call: lab.put, with: {n: 4}}
  - return: "${{ steps.last }}"
"""
    effects: dict[str, int] = {}
    once: list[int] = []
    fuse = [data.draw(st.integers(0, 20))]

    def burn() -> None:
        fuse[0] -= 1
        if fuse[0] == -1:
            raise Killed

    def put(n: int) -> int:
        burn()
        effects[str(n)] = n
        burn()
        return n

    def put_once(n: int) -> int:
        burn()
        once.append(n)
        burn()
        return n

    lab, journal = Lab(put=put, put_once=put_once), CutOff()

    async def live() -> Json:
        return await run(text, lab, journal=journal)

    for _ in range(3):
        try:
            assert asyncio.run(live()) == 4
            break
        except Killed:
            fuse[0] = data.draw(st.integers(0, 20))
    else:
        fuse[0] = 10**6
        assert asyncio.run(live()) == 4
    assert len(once) == len(set(once))
    assert set(effects) - {"100"} == {"0", "1", "2", "3", "4"}


def test_an_outcome_gives_its_value_or_raises_its_error() -> None:
    assert Outcome(3).take() == 3
    with pytest.raises(NotFound):
        Outcome(error=NotFound("x")).take()
