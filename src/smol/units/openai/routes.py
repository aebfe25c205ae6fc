"""The paths of OpenAI's and Anthropic's APIs, and who answers them: the model `smol`, or a provider."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.routing import BaseRoute

from smol.types import Json
from smol.units.gateway.fetching import Fetcher
from smol.units.gateway.hosts import HostAccess
from smol.units.gateway.operations import PROGRAMS, check_here_only, limit_program
from smol.units.gateway.paths import Endpoint, Handler, Path
from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Bodies, Receive, Scope, Send, Visit, while_connected
from smol.units.gateway.settings import AgentSettings
from smol.units.openai import chat, completions, messages, responses
from smol.units.openai.conversation import Answer, Ask
from smol.units.openai.embeddings import EMBEDDER, embed, read_embedding
from smol.units.openai.files import Files
from smol.units.openai.forwarding import Forwarded, Forwarding
from smol.units.openai.kept import Kept, Responses
from smol.units.openai.model import MODEL, answer
from smol.units.openai.pictures import fetch_pictures, has_remote
from smol.units.openai.reading import decode_request
from smol.units.openai.sending import send_events, send_json
from smol.units.openai.uploads import Uploads
from smol.units.openai.upstreams import Upstreams

__all__ = ["Faces"]

_STARTED = int(time.time())
_MODEL_METHODS = ["GET"]
_EMBEDDINGS = "/v1/embeddings"


class Faces:
    """Everything below `/v1/` that is not ours by name."""

    def __init__(
        self,
        host: HostAccess,
        bodies: Bodies,
        files: Files,
        upstreams: Upstreams,
        agent: AgentSettings,
        fetcher: Fetcher,
    ) -> None:
        self._host = host
        self._forwarding = Forwarding(host, agent)
        self._bodies = bodies
        self._uploads = Uploads(files, bodies)
        self._upstreams = upstreams
        self._fetcher = fetcher
        self._responses = Responses()

    def routes(self) -> list[BaseRoute]:
        """Where what is answered."""
        posts = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/responses": self._respond,
            _EMBEDDINGS: self._embeddings,
            "/v1/messages": self._message,
            "/v1/messages/count_tokens": self._count_tokens,
        }
        return [
            *(Path(path, Endpoint(self._model(path, smol)), methods=["POST"]) for path, smol in posts.items()),
            Path("/v1/models", Endpoint(self._models), methods=_MODEL_METHODS),
            Path("/v1/models/{model:path}", Endpoint(self._one_model), methods=_MODEL_METHODS),
            Path("/v1/responses/{id}", Endpoint(self._kept_response), methods=["GET", "DELETE"]),
            *self._uploads.routes(),
        ]

    async def close(self) -> None:
        """Hang up on providers."""
        await self._upstreams.close()

    # Who answers --------------------------------------------------------------------------------

    def _model(self, path: str, smol: _Answering) -> Handler:
        """Answer by `smol`, or by the provider of the model that is named."""

        async def handle(scope: Scope, receive: Receive, send: Send) -> None:
            visit: Visit = scope["smol"]
            if visit.media_type != b"application/json":
                raise Refusal(415, "send application/json")
            body = await self._bodies.read(visit, receive)
            named = decode_request(body, Forwarded)
            if named.model in (MODEL, EMBEDDER):
                _check_serves(named.model, path)
                await smol(visit, body, receive, send)
                return
            provider = self._upstreams.find(named.model)
            if provider is None:
                raise self._no_model(named.model)
            visit.check_allowed("openai.upstream")
            place = path.removeprefix("/v1/")
            await self._forwarding.serve(provider, place, named, body, visit, receive, send)

        return handle

    def _no_model(self, model: str) -> Refusal:
        known = ", ".join([MODEL, EMBEDDER, *(name for name, _ in self._upstreams.models())])
        return Refusal(
            404, f"no model {model!r}; known: {known}", code="NOT_FOUND", name="model_not_found", param="model"
        )

    async def _call(self, visit: Visit, operation: str, arguments: Mapping[str, Any]) -> Json:
        """Call an operation as far as whoever asks may."""
        visit.check_allowed(operation)
        check_here_only(operation)
        if operation in PROGRAMS:
            units = await self._host.describe_all()
            known = [f"{found.name}.{each.name}" for found in units for each in found.operations]
            arguments = limit_program(visit.key, arguments, known)
        return await self._host.call(operation, arguments, trace=visit.trace)

    def _work(self, visit: Visit, ask: Ask) -> Callable[[], Awaitable[Answer]]:
        return lambda: answer(ask, partial(self._call, visit))

    async def _fetch(self, visit: Visit, ask: Ask, receive: Receive) -> None:
        """Have the pictures that a request gives only the addresses of."""
        if has_remote(ask):
            visit.check_allowed("openai.fetch")
            await while_connected(fetch_pictures(ask, self._fetcher, partial(self._bodies.hold, visit)), receive)

    # OpenAI -------------------------------------------------------------------------------------

    async def _chat(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        request = chat.read_chat(body)
        ask = chat.ask_of(request, self._uploads.pictures(visit))
        await self._fetch(visit, ask, receive)
        work = self._work(visit, ask)
        copies = request.n or 1
        if request.stream:
            options = request.stream_options
            usage = options is not None and options.include_usage
            items = chat.chunks(ask, work, request.model, copies, usage)
            await send_events(visit, items, receive, send, named=False)
            return
        if request.stream_options is not None:
            raise Refusal(400, "stream_options needs stream: true", param="stream_options")
        found = await while_connected(work(), receive)
        await send_json(send, chat.completion(ask, found, request.model, copies))

    async def _completions(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        request = decode_request(body, completions.CompletionRequest)
        ask = completions.ask_of(request)
        work = self._work(visit, ask)
        copies = request.n or 1
        if request.stream:
            options = request.stream_options
            usage = options is not None and options.include_usage
            items = completions.chunks(ask, work, request.model, copies, usage)
            await send_events(visit, items, receive, send, named=False)
            return
        found = await while_connected(work(), receive)
        await send_json(send, completions.completion(ask, found, request.model, copies))

    async def _respond(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        request = responses.read_response(body)
        owner = visit.owner
        before = []
        if request.previous_response_id:
            before = self._responses.get(request.previous_response_id, owner, "previous_response_id").turns
        ask = responses.ask_of(request, before, self._uploads.pictures(visit))
        await self._fetch(visit, ask, receive)
        opened = responses.opening()

        async def work() -> Answer:
            found = await answer(ask, partial(self._call, visit))
            if request.store is not False:
                value = responses.response(request, ask, found, opened)
                said = [turn for turn in ask.turns if turn.role != "system"] + [responses.turn_of(found)]
                self._responses.keep(Kept(value, said, owner))
            return found

        if request.stream:
            await send_events(visit, responses.events(request, ask, work, opened), receive, send, named=True)
            return
        found = await while_connected(work(), receive)
        await send_json(send, responses.response(request, ask, found, opened))

    async def _kept_response(self, scope: Scope, receive: Receive, send: Send) -> None:
        found, owner = scope["path_params"]["id"], scope["smol"].owner
        if scope["method"] == "DELETE":
            self._responses.delete(found, owner)
            await send_json(send, {"id": found, "object": "response", "deleted": True})
            return
        await send_json(send, self._responses.get(found, owner).value)

    async def _embeddings(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        request, texts = read_embedding(body)
        await send_json(send, await while_connected(embed(request, texts, partial(self._call, visit)), receive))

    async def _models(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send_json(send, {"object": "list", "data": self._listing()})

    async def _one_model(self, scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["path_params"]["model"]
        found = next((entry for entry in self._listing() if entry["id"] == wanted), None)
        if found is None:
            raise self._no_model(wanted)
        await send_json(send, found)

    def _listing(self) -> list[dict[str, Json]]:
        names = [(MODEL, "smol"), (EMBEDDER, "smol"), *self._upstreams.models()]
        return [{"id": name, "object": "model", "created": _STARTED, "owned_by": owner} for name, owner in names]

    # Anthropic ----------------------------------------------------------------------------------

    async def _message(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        request = messages.read_message(body)
        ask = messages.ask_of(request, self._uploads.pictures(visit))
        await self._fetch(visit, ask, receive)
        work = self._work(visit, ask)
        if request.stream:
            await send_events(
                visit, messages.events(ask, work, request.model), receive, send, named=True, done=b""
            )
            return
        found = await while_connected(work(), receive)
        await send_json(send, messages.message(ask, found, request.model))

    async def _count_tokens(self, visit: Visit, body: bytes, receive: Receive, send: Send) -> None:
        ask = messages.ask_of(messages.read_message(body), self._uploads.pictures(visit))
        await send_json(send, {"input_tokens": ask.prompt_tokens()})


_Answering = Callable[[Visit, bytes, Receive, Send], Awaitable[None]]


def _check_serves(model: str, path: str) -> None:
    """Raises Refusal 404 for one of our models where another one answers."""
    fitting = EMBEDDER if path == _EMBEDDINGS else MODEL
    if model != fitting:
        does = "makes no embeddings" if path == _EMBEDDINGS else "makes embeddings, and nothing else"
        raise Refusal(
            404, f"the model {model!r} {does}: {path} takes {fitting!r}, or a provider's model",
            code="NOT_FOUND", name="model_not_found", param="model",
        )  # fmt: skip
