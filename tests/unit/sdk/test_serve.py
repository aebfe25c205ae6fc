"""A worker over the memory transport, with a host that notes what it hears."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from smol.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    SmolError,
    Unavailable,
)
from smol.protocol import Buffer
from smol.protocol.messages import Call, Cancel, Drain, Error, Hello, Message, Publish, Result, Welcome
from smol.sdk import Attachment, Context, Unit, operation
from smol.sdk.context import Environment
from smol.sdk.serve import Worker
from smol.transport import Caller, Channel, connect_in_memory


class Lab(Unit):
    """Does what tests need."""

    def __init__(self) -> None:
        self.life: list[str] = []
        self.release = threading.Event()
        self.running = threading.Event()
        self.context: Context | None = None
        self.fail_in = ""
        self.serving = asyncio.Event()
        self.slow_to_provision = False

    def _step(self, name: str) -> None:
        self.life.append(name)
        if self.fail_in == name:
            raise ZeroDivisionError(f"{name} went wrong")

    async def provision(self, context: Context) -> None:
        self.context = context
        self._step("provision")
        if self.slow_to_provision:
            await asyncio.sleep(3600)

    async def validate(self) -> None:
        self._step("validate")

    async def serve(self, context: Context) -> None:
        self._step("serve")
        self.serving.set()
        await asyncio.sleep(3600)

    async def close(self) -> None:
        self._step("close")

    @operation()
    async def double(self, context: Context, image: Attachment, times: int = 2) -> Attachment:
        """Repeat bytes."""
        context.progress(0.5, "half")
        return Attachment(bytes(image.data) * times, image.media_type)

    @operation()
    async def hold(self) -> None:
        """Wait to be cancelled, and clean up slowly."""
        try:
            await asyncio.sleep(3600)
        finally:
            self.life.append("cleaning")
            for _ in range(10):
                await asyncio.sleep(0)
            self.life.append("cleaned up")

    @operation()
    def grind(self, context: Context) -> str:
        """Compute in a thread until released or cancelled."""
        self.running.set()
        while not self.release.wait(0.001):
            if context.cancelled:
                self.life.append("stopped")
                break
        context.progress(1.0, "done")
        return threading.current_thread().name

    @operation()
    def stuck(self) -> None:
        """Compute in a thread and look at nothing."""
        self.running.set()
        self.release.wait(30)

    @operation()
    async def count(self, upto: int) -> AsyncIterator[int]:
        """Count."""
        try:
            for number in range(upto):
                yield number
        finally:
            self.life.append("count closed")

    @operation()
    async def fail(self, how: str) -> dict[str, Any]:
        """Fail in a way of one's choice."""
        match how:
            case "known":
                raise NotFound("no such thing", name="\ud800", left=3)
            case "bug":
                raise KeyError("boom")
            case "unsendable":
                return {"x": object()}
            case "huge":
                return {"x": "x" * 2_000_000}
        return {}

    @operation()
    async def ask(self, context: Context, operation: str) -> Any:
        """Ask another unit."""
        return await context.call(operation, within_seconds=2, n=1)

    @operation()
    async def look(self, context: Context) -> list[Any]:
        """Look at the context."""
        left = context.deadline_seconds()
        return [left is not None and 0 < left <= 5, context.trace, context.key, dict(context.settings)]

    @operation()
    async def tell(self, context: Context) -> None:
        """Publish."""
        context.publish("done", {"n": 1})
        with pytest.raises(InvalidArgument):
            context.publish("done", Attachment(b""))


class Host:
    """The host's end: welcomes, calls, and answers one operation."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.caller: Caller | None = None
        self.greeted = asyncio.Event()
        self.ended = asyncio.Event()
        self.error: SmolError | None = None
        self.welcoming = True

    def on_message(self, channel: Channel, message: Message, body: Buffer) -> None:
        if self.caller is not None and self.caller.handle(message, body):
            return
        self.heard.append(message)
        if isinstance(message, Hello):
            self.caller = Caller(channel)
            if self.welcoming:
                channel.send(Welcome(protocol=1))
            self.greeted.set()
        elif isinstance(message, Call):
            channel.send(Result(message.id, msgspec.Raw(b'{"echo":' + bytes(message.arguments) + b"}")))

    def on_closed(self, channel: Channel, error: SmolError | None) -> None:
        self.error = error
        if self.caller is not None:
            self.caller.fail(error or Unavailable("the worker is gone"))
        self.ended.set()
        self.greeted.set()


class Bench:
    """A worker that runs, and the host's end of its connection."""

    def __init__(self, tmp_path: Path, threads: int = 2) -> None:
        self.unit = Lab()
        self.host = Host()
        environment = Environment(
            unit="lab", log=logging.getLogger("test"), data_dir=tmp_path / "data", cache_dir=tmp_path / "cache",
            settings={"size": 3},
        )  # fmt: skip
        self.worker = Worker([("lab", "1", self.unit, environment)], threads)
        self.channel, self.theirs = connect_in_memory(self.host, self.worker)
        self.run: asyncio.Task[None] | None = None

    async def start(self, *, describe_only: bool = False) -> None:
        self.run = asyncio.ensure_future(self.worker.run(self.theirs, describe_only=describe_only))
        await self.host.greeted.wait()

    async def call(self, name: str, seconds: float = 5, **arguments: Any) -> Any:
        assert self.host.caller is not None
        reply = await self.host.caller.call(f"lab.{name}", arguments, deadline_seconds=seconds)
        return msgspec.json.decode(reply.value)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def make(threads: int = 2) -> AsyncIterator[Bench]:
        made = Bench(tmp_path, threads)
        await made.start()
        try:
            yield made
        finally:
            made.unit.release.set()
            made.channel.close()
            if made.run is not None:
                await asyncio.gather(made.run, return_exceptions=True)

    return make


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


Make = Callable[..., Any]


async def test_a_unit_is_provisioned_validated_served_and_closed(bench: Make) -> None:
    async with bench() as lab:
        await lab.unit.serving.wait()
        assert lab.unit.life == ["provision", "validate", "serve"]
        (hello,) = lab.host.heard
        assert [unit.name for unit in hello.units] == ["lab"]
    assert lab.unit.life == ["provision", "validate", "serve", "close"]


@pytest.mark.parametrize("step", ["provision", "validate"])
async def test_a_unit_that_cannot_get_ready_is_closed_and_the_host_told(tmp_path: Path, step: str) -> None:
    lab = Bench(tmp_path)
    lab.unit.fail_in = step
    await lab.start()
    assert lab.run is not None
    with pytest.raises(Internal, match=f"unit 'lab' can't get ready: ZeroDivisionError: {step} went wrong"):
        await lab.run
    await lab.host.ended.wait()
    assert isinstance(lab.host.error, Internal)
    assert [type(message) for message in lab.host.heard] == [Error]
    assert lab.unit.life[-1] == "close"


async def test_a_failing_service_ends_the_worker_and_the_host_is_told(tmp_path: Path) -> None:
    lab = Bench(tmp_path)
    lab.unit.fail_in = "serve"
    await lab.start()
    assert lab.run is not None
    with pytest.raises(Internal, match="stopped serving"):
        await lab.run
    await lab.host.ended.wait()
    assert "serve went wrong" in str(lab.host.error)
    assert lab.unit.life == ["provision", "validate", "serve", "close"]


async def test_a_failing_close_is_logged_and_harms_nothing(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as lab:
        lab.unit.fail_in = "close"
    assert "close failed" in caplog.text
    assert lab.run.exception() is None


async def test_a_host_that_goes_away_ends_the_getting_ready(tmp_path: Path) -> None:
    lab = Bench(tmp_path)
    lab.unit.slow_to_provision = True
    run = asyncio.ensure_future(lab.worker.run(lab.theirs))
    await until(lambda: lab.unit.life)
    lab.channel.close()
    with pytest.raises(Unavailable, match="went away"):
        await run
    assert lab.unit.life == ["provision", "close"]


async def test_a_host_that_hangs_up_before_welcome_ends_the_worker(tmp_path: Path) -> None:
    lab = Bench(tmp_path)
    lab.host.welcoming = False
    await lab.start()
    lab.channel.close()
    assert lab.run is not None
    with pytest.raises(Unavailable):
        await lab.run


async def test_describing_provisions_nothing(tmp_path: Path) -> None:
    lab = Bench(tmp_path)
    await lab.start(describe_only=True)
    lab.channel.close()
    assert lab.run is not None
    await lab.run
    assert lab.unit.life == ["close"]


async def test_an_operation_gets_attachments_and_its_context(bench: Make) -> None:
    async with bench() as lab:
        seen: list[float] = []
        reply = await lab.host.caller.call(
            "lab.double", {"image": Attachment(b"ab", "image/png")}, deadline_seconds=5, trace="00-1", key="k",
            on_progress=lambda fraction, _: seen.append(fraction),
        )  # fmt: skip
        assert reply.attachments == [Attachment(b"abab", "image/png")]
        assert seen == [0.5]
        assert await lab.call("look") == [True, "", "", {"size": 3}]


async def test_what_cannot_be_called_is_refused_with_the_nearest_name(bench: Make) -> None:
    async with bench() as lab:
        with pytest.raises(NotFound, match=r"did you mean 'lab\.double'"):
            await lab.call("doubel")
        with pytest.raises(InvalidArgument, match="missing argument `image`"):
            await lab.call("double")
        with pytest.raises(InvalidArgument, match="is a stream"):
            await lab.call("count", upto=1)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("known", NotFound, "no such thing"),
        ("bug", Internal, "KeyError: 'boom'"),
        ("unsendable", Internal, "returned what can't be sent"),
        ("huge", ResourceExhausted, "send large values as attachments"),
    ],
)
async def test_a_failing_operation_fails_its_call_alone(
    bench: Make, how: str, kind: type[SmolError], message: str
) -> None:
    async with bench() as lab:
        with pytest.raises(kind, match=message):
            await lab.call("fail", how=how)
        assert await lab.call("fail", how="") == {}


async def test_a_cancelled_call_is_cleaned_up_and_answered(bench: Make) -> None:
    async with bench() as lab:
        call = asyncio.ensure_future(lab.call("hold"))
        await until(lambda: lab.worker._serving)
        await asyncio.sleep(0)
        call.cancel()
        await until(lambda: not lab.channel.session.calls)
        assert lab.unit.life[-1] == "cleaned up"


async def test_a_second_cancel_does_not_break_into_the_clean_up(bench: Make) -> None:
    async with bench() as lab:
        lab.channel.send(Call(id=50, operation="lab.hold"))
        await until(lambda: lab.worker._serving and lab.worker._serving[50].started)
        lab.channel.send(Cancel(id=50))
        await until(lambda: lab.unit.life[-1] == "cleaning")
        lab.channel.send(Cancel(id=50))
        await until(lambda: not lab.channel.session.calls)
        assert lab.unit.life[-1] == "cleaned up"


async def test_a_call_cancelled_before_it_starts_is_answered_and_never_runs(bench: Make) -> None:
    async with bench() as lab:
        lab.channel.send(Call(id=50, operation="lab.hold"))
        lab.channel.send(Cancel(id=50))
        await until(lambda: not lab.channel.session.calls)
        assert "cleaning" not in lab.unit.life
        assert lab.worker._serving == {}


async def test_a_plain_function_runs_in_a_thread_beside_others(bench: Make) -> None:
    async with bench() as lab:
        seen: list[str] = []
        call = asyncio.ensure_future(
            lab.host.caller.call(
                "lab.grind", {}, deadline_seconds=5, on_progress=lambda _, message: seen.append(message)
            )
        )
        await until(lab.unit.running.is_set)
        assert await lab.call("fail", how="") == {}
        lab.unit.release.set()
        assert msgspec.json.decode((await call).value).startswith("smol")
        assert seen == ["done"]


async def test_a_thread_sees_that_it_was_cancelled_and_its_call_stays_open_until_it_ends(bench: Make) -> None:
    async with bench() as lab:
        call = asyncio.ensure_future(lab.call("grind"))
        await until(lab.unit.running.is_set)
        call.cancel()
        await until(lambda: not lab.channel.session.calls)
        assert lab.unit.life[-1] == "stopped"
        assert lab.worker._serving == {}


async def test_a_thread_that_does_not_stop_does_not_hold_the_worker_up(
    bench: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("smol.sdk.serve._CLOSE_SECONDS", 0.01)
    async with bench() as lab:
        call = asyncio.ensure_future(lab.call("stuck"))
        await until(lab.unit.running.is_set)
        lab.channel.close()
        async with asyncio.timeout(5):
            await lab.run
        with pytest.raises(Unavailable):
            await call
    assert "left behind" in caplog.text
    assert lab.unit.life[-1] == "close"


async def test_a_stream_keeps_to_its_credit_and_ends(bench: Make) -> None:
    async with bench() as lab:
        items = lab.host.caller.stream("lab.count", {"upto": 20}, deadline_seconds=5)
        await until(lambda: lab.channel.session._granted.get(1) == 0)
        numbers = [msgspec.json.decode(item.value) async for item in items]
        assert numbers == list(range(20))
        assert lab.unit.life[-1] == "count closed"


async def test_a_stream_closed_early_closes_its_generator(bench: Make) -> None:
    async with bench() as lab:
        async with lab.host.caller.stream("lab.count", {"upto": 10**9}, deadline_seconds=5) as items:
            await anext(items)
        await until(lambda: not lab.channel.session.calls)
        assert lab.unit.life[-1] == "count closed"


async def test_a_unit_calls_another_through_the_host(bench: Make) -> None:
    async with bench() as lab:
        assert await lab.call("ask", operation="other.thing") == {"echo": {"n": 1}}


async def test_a_unit_cannot_call_before_the_worker_serves(tmp_path: Path) -> None:
    lab = Bench(tmp_path)
    lab.host.welcoming = False
    await lab.start()
    assert lab.unit.context is not None
    with pytest.raises(FailedPrecondition, match="once the worker serves"):
        await lab.unit.context.call("other.thing")
    lab.channel.close()
    assert lab.run is not None
    await asyncio.gather(lab.run, return_exceptions=True)


async def test_an_event_is_published_under_the_name_of_its_unit(bench: Make) -> None:
    async with bench() as lab:
        await lab.call("tell")
        (event,) = [message for message in lab.host.heard if isinstance(message, Publish)]
        assert (event.topic, bytes(event.data)) == ("lab.done", b'{"n":1}')


async def test_a_drained_worker_finishes_what_it_has_takes_nothing_new_and_ends(bench: Make) -> None:
    async with bench() as lab:
        call = asyncio.ensure_future(lab.call("grind"))
        await until(lab.unit.running.is_set)
        lab.channel.send(Drain())
        with pytest.raises(Unavailable, match="draining"):
            await lab.call("look")
        lab.unit.release.set()
        assert (await call).startswith("smol")
        await lab.run
        assert lab.host.error is None


async def test_an_idle_worker_ends_at_once_when_drained(bench: Make) -> None:
    async with bench() as lab:
        lab.channel.send(Drain())
        await lab.run


async def test_calls_in_flight_are_cancelled_when_the_host_goes(bench: Make) -> None:
    async with bench() as lab:
        call = asyncio.ensure_future(lab.call("hold"))
        await until(lambda: lab.worker._serving and all(one.started for one in lab.worker._serving.values()))
        lab.channel.close()
        await lab.run
        with pytest.raises((Unavailable, Cancelled)):
            await call
        assert "cleaned up" in lab.unit.life


def test_words_from_a_thread_after_the_end_are_dropped(tmp_path: Path) -> None:
    async def run() -> Bench:
        lab = Bench(tmp_path)
        await lab.start()
        lab.channel.close()
        assert lab.run is not None
        await lab.run
        return lab

    lab = asyncio.run(run())
    assert lab.unit.context is not None
    thread = threading.Thread(target=lab.unit.context.publish, args=("late", 1))
    thread.start()
    thread.join()
