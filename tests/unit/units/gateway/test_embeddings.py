"""`/v1/embeddings` by the model `smol-embed`: what it takes, answers and refuses."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smol.units.gateway.app import Application
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.settings import GatewaySettings, Upstream
from smol.units.text.embedding import embed
from smol.units.text.unit import Text


@pytest.fixture
def send(ask: Any, fake_host: Any, tmp_path: Path) -> Callable[..., Any]:
    host = fake_host(text=Text())
    upstreams = {"all": Upstream(url="http://nowhere.invalid", models=("*",))}
    app = Application(GatewaySettings(upstreams=upstreams), host, KeyFile(tmp_path / "keys.json"), tmp_path)

    def post(path: str = "/v1/embeddings", model: str = "smol-embed", **fields: Any) -> Any:
        body = json.dumps({"model": model, **fields}).encode() if path == "/v1/embeddings" or fields else b""
        return asyncio.run(ask(app, path, body))

    post.host = host  # type: ignore[attr-defined]
    return post


def test_texts_get_vectors_in_their_order(send: Any) -> None:
    answer = send(input=["one", "two words"])
    assert answer.status == 200
    assert [(each["index"], each["object"]) for each in answer.json["data"]] == [
        (0, "embedding"),
        (1, "embedding"),
    ]
    assert [each["embedding"] for each in answer.json["data"]] == [embed("one"), embed("two words")]
    assert answer.json["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert (answer.json["object"], answer.json["model"]) == ("list", "smol-embed")


def test_base64_and_floats_are_the_same_numbers(send: Any) -> None:
    (packed,) = send(input="one two", encoding_format="base64", dimensions=100).json["data"]
    (plain,) = send(input="one two", dimensions=100).json["data"]
    assert list(struct.unpack("<100f", base64.b64decode(packed["embedding"]))) == plain["embedding"]
    assert len(plain["embedding"]) == 100


def test_a_large_batch_is_made_in_several_calls(send: Any) -> None:
    texts = [f"text {number}" for number in range(150)]
    data = send(input=texts, dimensions=8).json["data"]
    assert [each["index"] for each in data] == list(range(150))
    assert data[149]["embedding"] == embed("text 149", 8)
    assert [len(arguments["texts"]) for _, arguments in send.host.calls] == [64, 64, 22]
    send.host.calls.clear()
    assert send(input=["x" * 99_000] * 20, dimensions=8).status == 200
    assert max(len(arguments["texts"]) for _, arguments in send.host.calls) <= 6


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": [1, 2, 3]}, "input", "no vocabulary"),
        ({"input": [[1, 2], [3]]}, "input[0]", "no vocabulary"),
        ({"input": ""}, "input", "not empty"),
        ({"input": ["a", " "]}, "input[1]", "not empty"),
        ({"input": []}, "input", "1 to 2048"),
        ({"input": ["a"] * 2049}, "input", "1 to 2048"),
        ({"input": ["a", {"text": "b"}]}, "input[1]", "a text"),
        ({"input": "a" * 100_001}, "input", "at most 100000"),
        ({"input": "a", "dimensions": 513}, "dimensions", "512"),
        ({"input": "a", "dimensions": 0}, "dimensions", ">= 1"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "int8"),
        ({"input": "a", "truncate": True}, "truncate", "unrecognized"),
        ({}, "input", "input"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(
    send: Any, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = send(**fields)
    assert answer.status == 400
    assert answer.json["error"]["param"] == param
    assert words in answer.json["error"]["message"]


def test_each_of_our_models_says_what_the_other_is_for(send: Any) -> None:
    answer = send(model="smol", input="x")
    assert (answer.status, answer.json["error"]["code"]) == (404, "model_not_found")
    assert "smol-embed" in answer.json["error"]["message"]
    chat = send("/v1/chat/completions", messages=[{"role": "user", "content": "hi"}])
    assert chat.status == 404
    assert "makes embeddings" in chat.json["error"]["message"]


def test_the_model_is_listed(send: Any) -> None:
    assert [each["id"] for each in send("/v1/models").json["data"]] == ["smol", "smol-embed"]
    assert send("/v1/models/smol-embed").json["owned_by"] == "smol"
