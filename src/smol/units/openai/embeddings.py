"""`/v1/embeddings` by the model `smol-embed`: vectors of texts, made by the operation `text.embed`."""

from __future__ import annotations

import base64
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import msgspec

from smol.sizes import KIB
from smol.types import Json
from smol.units.gateway.problems import Refusal
from smol.units.openai.conversation import count_tokens
from smol.units.openai.reading import decode_request
from smol.units.text.unit import LONGEST_TEXT, MOST_TEXTS, Dimensions
from smol.units.text.unit import MODEL as EMBEDDER

__all__ = ["EMBEDDER", "embed", "read_embedding"]

MOST_INPUTS = 2048
_MOST_BYTES_AT_ONCE = 600 * KIB
"""Of texts as JSON in one call; the wire takes a mebibyte."""


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """OpenAI's parameters."""

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Dimensions | None = None
    user: str | None = None


def read_embedding(body: bytes) -> tuple[EmbeddingRequest, list[str]]:
    """A request and its texts. Raises Refusal 400."""
    request = decode_request(body, EmbeddingRequest)
    texts = [request.input] if isinstance(request.input, str) else request.input
    if texts and all(isinstance(text, int) for text in texts):
        raise _no_tokens("input")
    if not 1 <= len(texts) <= MOST_INPUTS:
        raise Refusal(400, f"input must be 1 to {MOST_INPUTS} texts, not {len(texts)}", param="input")
    for index, text in enumerate(texts):
        where = "input" if isinstance(request.input, str) else f"input[{index}]"
        if isinstance(text, list):
            raise _no_tokens(where)
        if not isinstance(text, str) or not text.strip():
            raise Refusal(400, f"{where} must be a text that is not empty", param=where)
        if len(text) > LONGEST_TEXT:
            raise Refusal(400, f"{where} has {len(text)} characters, at most {LONGEST_TEXT}", param=where)
    return request, texts


def _no_tokens(where: str) -> Refusal:
    return Refusal(
        400,
        f"{where}: {EMBEDDER} has no vocabulary, so it can't tell which text these tokens are; send the text "
        "(LangChain: check_embedding_ctx_length=False)",
        param=where,
    )


async def embed(
    request: EmbeddingRequest, texts: list[str], call: Callable[[str, dict[str, Any]], Awaitable[Json]]
) -> dict[str, Json]:
    """The answer; vectors are written down as they come. call: an operation with arguments."""
    more = {} if request.dimensions is None else {"dimensions": request.dimensions}
    data: list[msgspec.Raw] = []
    for batch in _batches(texts):
        found = await call("text.embed", {"texts": batch, **more})
        for vector in found["vectors"]:
            item = {"object": "embedding", "index": len(data), "embedding": _written(vector, request)}
            data.append(msgspec.Raw(msgspec.json.encode(item)))
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": request.model, "usage": usage}


def _batches(texts: list[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        length = len(msgspec.json.encode(text))
        if batch and (len(batch) == MOST_TEXTS or size + length > _MOST_BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    yield batch


def _written(vector: list[float], request: EmbeddingRequest) -> str | list[float]:
    if request.encoding_format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
