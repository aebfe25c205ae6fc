"""Operations of the code unit: run, stream, check, sessions, and what holds them."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from smol.errors import FailedPrecondition, InvalidArgument, Unavailable
from smol.sandbox.ground import explore
from smol.sandbox.kinds import program_kind, python_kind, with_network
from smol.sandbox.proxy import Contact
from smol.sandbox.records import Isolation, Job, Kind, Limits, Outcome
from smol.sandbox.seal import network_environment
from smol.sandbox.stream import Output
from smol.sdk import Attachment, Context, Metric, Unit, operation, uses
from smol.sizes import MIB
from smol.units.code.environments import EnvironmentInfo, Environments
from smol.units.code.inputs import gather
from smol.units.code.languages import LANGUAGES, Language
from smol.units.code.lease import lease
from smol.units.code.network import check_network, proxied
from smol.units.code.pool import Pool
from smol.units.code.records import Check, LanguageInfo, LanguageName, Piece, Problem, Run, Session, Source
from smol.units.code.results import run_of
from smol.units.code.sessions import Sessions, Wanted
from smol.units.code.settings import Settings, read_settings
from smol.units.code.tally import Tally

__all__ = ["Code"]

Timeout: TypeAlias = Annotated[int, Meta(ge=1, le=3_600_000)]
Memory: TypeAlias = Annotated[int, Meta(ge=16 * MIB, le=1 << 40)]
Stored: TypeAlias = Annotated[dict[str, str] | None, uses("storage.get")]
_CHECK = Limits(timeout_ms=5000)


class _Wanted(msgspec.Struct, frozen=True):
    """What is to be run."""

    language: str
    source: str
    stdin: str = ""
    files: dict[str, bytes] = {}
    environment: str = ""
    network: bool = False


class Code(Unit):
    """Untrusted code, run under seals."""

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        """without: layers to do as if this machine did not have them."""
        self._without = without
        self._settings = Settings()
        self._pool: Pool | None = None
        self._open: Sessions | None = None
        self._life: Context | None = None
        self._environments = Environments({})
        self._tally = Tally()

    async def provision(self, context: Context) -> None:
        self._settings = read_settings(context.settings)
        self._life = context
        self._environments = Environments(self._settings.environments)
        self._pool = Pool(self._settings, await explore(self._without), self._without)
        self._open = Sessions(self._pool, self._settings)
        isolation = self._pool.isolation
        context.log.info("code is held by tier %s: %s", isolation.tier, ", ".join(isolation.layers) or "nothing")
        self._pool.begin()

    async def serve(self, context: Context) -> None:
        layers = self._boxes.isolation.layers
        try:
            version = (await self._boxes.keeper()).version
        except FailedPrecondition as error:
            self._environments.give_up(error.message)
        else:
            python = ".".join(str(part) for part in version)
            as_another_user = "uid" in layers and "namespaces" not in layers
            self._environments.begin(context, python, closed_to_others=as_another_user)
        await self._sessions.sweep_forever()

    async def close(self) -> None:
        await self._environments.close()
        if self._open is not None:
            await self._open.close_all()
        if self._pool is not None:
            await self._pool.close()

    @property
    def _boxes(self) -> Pool:
        if self._pool is None:
            raise Unavailable("the code unit is not ready yet")
        return self._pool

    @property
    def _sessions(self) -> Sessions:
        if self._open is None:
            raise Unavailable("the code unit is not ready yet")
        return self._open

    @operation()
    async def run(
        self,
        context: Context,
        source: Source,
        language: LanguageName = "python",
        stdin: str = "",
        files: list[Attachment] | None = None,
        stored: Stored = None,
        timeout_ms: Timeout = 5000,
        memory_bytes: Memory = 128 * MIB,
        network: bool = False,
        environment: str = "",
    ) -> Run:
        """Run code that nobody trusts, in a sandbox of its own that is gone afterwards.

        Whatever the code does is a result with a verdict, not an error of this call.

        files: put into its working directory, by their names.
        stored: more of them from storage: a file's name to COLLECTION/KEY.
        memory_bytes: for the code and all it writes.
        network: reach the hosts of [units.code.network], by the proxy that the environment names; refused without.
        environment: Python packages by the name they have in [units.code.environments].
        """
        limits = self._limits(timeout_ms, memory_bytes)
        given = await gather(context, files, stored)
        wanted = _Wanted(language, source, stdin, given, environment, network)
        outcome, contacts = await self._run(context, wanted, limits)
        return run_of(outcome, self._boxes.isolation, contacts)

    @operation()
    async def stream(
        self,
        context: Context,
        source: Source,
        language: LanguageName = "python",
        stdin: str = "",
        files: list[Attachment] | None = None,
        stored: Stored = None,
        timeout_ms: Timeout = 60_000,
        memory_bytes: Memory = 128 * MIB,
        network: bool = False,
        environment: str = "",
    ) -> AsyncIterator[Piece]:
        """Run code and get its output as it comes; the last piece is the result. Cancelling ends the code.

        files: put into its working directory, by their names.
        stored: more of them from storage: a file's name to COLLECTION/KEY.
        memory_bytes: for the code and all it writes.
        network: reach the hosts of [units.code.network], by the proxy that the environment names; refused without.
        environment: Python packages by the name they have in [units.code.environments].
        """
        limits = self._limits(timeout_ms, memory_bytes)
        given = await gather(context, files, stored)
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}

        def tell(name: str, data: bytes) -> None:
            if text := decoders[name].decode(data):
                pieces.put_nowait(Piece(kind="stderr" if name == "stderr" else "stdout", text=text))

        wanted = _Wanted(language, source, stdin, given, environment, network)
        task = asyncio.create_task(self._run(context, wanted, limits, tell))
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            outcome, contacts = await task
            result = run_of(outcome, self._boxes.isolation, contacts, with_output=False)
            yield Piece(kind="result", result=result)
        finally:
            task.cancel()
            with contextlib.suppress(BaseException):
                await task

    @operation(read_only=True)
    async def check(self, context: Context, source: Source, language: LanguageName = "python") -> Check:
        """Find errors of syntax, and in Python undefined names, without running the code."""
        tongue = LANGUAGES[language]
        if not tongue.checker:
            outcome, _ = await self._run(context, _Wanted(language, source), _CHECK, check=True)
            message = outcome.stderr.decode("utf-8", "replace").strip()
            ok = outcome.verdict == "ok"
            return Check(ok=ok, problems=[] if ok else [Problem(0, 0, message or outcome.verdict)])
        outcome, _ = await self._run(context, _Wanted("python", tongue.checker, source), _CHECK)
        try:
            problems = msgspec.convert(outcome.value, list[Problem])
        except msgspec.ValidationError:
            problems = [Problem(1, 1, f"the source is too much for its checker ({outcome.verdict})")]
        return Check(ok=not problems, problems=problems)

    @operation(read_only=True)
    async def languages(self) -> list[LanguageInfo]:
        """List the languages, and whether each can be run here."""
        return [
            LanguageInfo(
                name=tongue.name, description=tongue.description, available=not reason, reason=reason or ""
            )
            for tongue in LANGUAGES.values()
            for reason in [self._obstacle(tongue)]
        ]

    @operation(read_only=True)
    async def environments(self) -> list[EnvironmentInfo]:
        """List the environments of the settings, and whether each is ready."""
        return self._environments.infos()

    @operation(idempotent=True)
    async def environment_make(self, environment: str) -> EnvironmentInfo:
        """Wait until an environment is ready; one that could not be made is tried again.

        environment: the name it has in [units.code.environments].
        """
        return await self._environments.make(self._life_context(), environment)

    @operation(read_only=True)
    async def isolation(self) -> Isolation:
        """Tell what holds the code on this machine: the tier, the layers in force, what is missing and why."""
        return self._boxes.isolation

    @operation()
    async def session_create(
        self, memory_bytes: Memory = 128 * MIB, network: bool = False, environment: str = ""
    ) -> Session:
        """Open a stateful Python interpreter, which keeps its memory reserved until it is closed.

        memory_bytes: for the interpreter and all it writes.
        network: reach the hosts of [units.code.network] during runs, by the proxy that the environment names.
        environment: Python packages by the name they have in [units.code.environments].
        """
        self._boxes.check_tier()
        limits = self._limits(1, memory_bytes)
        kind = await self._kind(LANGUAGES["python"], environment, network=network)
        return await self._sessions.create(self._life_context(), Wanted(limits, kind, environment))

    @operation()
    async def session_run(
        self,
        context: Context,
        session: str,
        source: Source,
        stdin: str = "",
        files: list[Attachment] | None = None,
        stored: Stored = None,
        timeout_ms: Timeout = 5000,
    ) -> Run:
        """Run Python in a session; names stay for the next run. A session that meets a limit is over.

        files: put into its working directory, by their names.
        stored: more of them from storage: a file's name to COLLECTION/KEY.
        """
        given = await gather(context, files, stored)
        limits = msgspec.structs.replace(
            self._limits(timeout_ms, 16 * MIB), memory_bytes=self._sessions.limits(session).memory_bytes
        )
        job = Job(source=source, stdin=stdin.encode("utf-8", "replace"), files=given, keep=True)
        outcome, contacts = await self._sessions.run(context, session, job, limits)
        self._tally.count(outcome.verdict)
        return run_of(outcome, self._boxes.isolation, contacts)

    @operation(destructive=True)
    async def session_reset(self, session: str) -> Session:
        """Give a session a fresh interpreter and an empty directory."""
        return await self._sessions.reset(self._life_context(), session)

    @operation(idempotent=True, destructive=True)
    async def session_close(self, session: str) -> None:
        """Close a session and give its memory back."""
        await self._sessions.close(session)

    @operation(read_only=True)
    async def sessions(self) -> list[Session]:
        """List the open sessions."""
        return self._sessions.list()

    @operation(read_only=True)
    async def metrics(self) -> list[Metric]:
        """Count sandboxes, sessions and runs, and tell what holds them."""
        figures = {**self._boxes.figures(), "sessions": len(self._sessions.list())}
        return self._tally.metrics(self._boxes.isolation, figures)

    def _life_context(self) -> Context:
        if self._life is None:
            raise Unavailable("the code unit is not ready yet")
        return self._life

    def _limits(self, timeout_ms: int, memory_bytes: int) -> Limits:
        """What a run may use, if the settings allow it. Raises InvalidArgument."""
        settings = self._settings
        if timeout_ms > settings.most_timeout_ms:
            raise InvalidArgument(
                f"timeout_ms {timeout_ms} is beyond the {settings.most_timeout_ms} of [units.code] most_timeout_ms"
            )
        if memory_bytes > settings.most_memory:
            raise InvalidArgument(
                f"memory_bytes {memory_bytes} is beyond the {settings.most_memory} of [units.code] most_memory"
            )
        return msgspec.structs.replace(
            self._boxes.default_limits(), timeout_ms=timeout_ms, memory_bytes=memory_bytes
        )

    async def _run(
        self,
        context: Context,
        wanted: _Wanted,
        limits: Limits,
        tell: Output | None = None,
        *,
        check: bool = False,
    ) -> tuple[Outcome, list[Contact]]:
        tongue = LANGUAGES[wanted.language]
        self._boxes.check_tier()
        if reason := self._obstacle(tongue):
            raise FailedPrecondition(f"{wanted.language} can't be run here: {reason}")
        kind = await self._kind(tongue, wanted.environment, network=wanted.network)
        source = wanted.source if tongue.programs else tongue.python(wanted.source)
        job = Job(source=source, stdin=wanted.stdin.encode("utf-8", "replace"), files=wanted.files)
        if tongue.programs:
            job = msgspec.structs.replace(
                job,
                argv=tongue.command(check=check),
                source_file=tongue.source_file(),
                environment={
                    "PATH": "/usr/bin:/bin",
                    "HOME": "/work",
                    "TMPDIR": "/tmp",  # noqa: S108  (in the sandbox)
                    "LANG": "C.UTF-8",
                    **(network_environment() if wanted.network else {}),
                    **tongue.environment,
                },
            )
        async with self._boxes.place(), lease(context, limits.memory_bytes, f"a run of {wanted.language}"):
            box = await self._boxes.take(kind)
            try:
                async with proxied(context, box, self._settings.network) as contacts:
                    outcome = await box.run(job, limits, tell)
                self._tally.count(outcome.verdict)
                return outcome, contacts
            except asyncio.CancelledError:
                self._tally.count("cancelled")
                raise
            finally:
                self._boxes.discard(box)

    async def _kind(self, tongue: Language, environment: str, *, network: bool) -> Kind | None:
        """The kind of sandbox; None for the one that is kept warm. Raises InvalidArgument, FailedPrecondition."""
        if network:
            check_network(self._settings.network, self._boxes.isolation)
        if network and tongue.harness:
            raise InvalidArgument(f"{tongue.name} can't use a network here; python, shell and node can")
        if environment and tongue.name != "python":
            raise InvalidArgument(f"environments are for Python; {tongue.name} has none")
        if tongue.programs:
            kind = program_kind(tongue.name, tongue.shows)
        elif environment or network:
            path = self._environments.path(environment) if environment else None
            kind = python_kind(await self._boxes.keeper(), path)
        else:
            return None
        return with_network(kind) if network else kind

    def _obstacle(self, tongue: Language) -> str:
        """Why a language can't be run here; empty when it can."""
        if tongue.programs and tongue.program() is None:
            return f"{tongue.programs[0]} is not installed"
        lacking = [layer for layer in tongue.needs if layer not in self._boxes.isolation.layers]
        return f"it needs {', '.join(lacking)}, which this machine lacks" if lacking else ""
