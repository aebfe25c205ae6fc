"""OpenAI's own client against a running Smol, its answers strictly validated."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import mul
from typing import Any

import pytest

from tests.unit.units.openai.agent.wires import ChatLab, Lab, MessagesLab, ResponsesLab

openai = pytest.importorskip("openai")

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


class _Provider(BaseHTTPRequestHandler):
    """A provider of one's own: fails once, streams slowly, knows its key."""

    asked: int = 0
    bodies: list[Any]
    betas: list[str | None]
    cut: threading.Event

    def do_POST(self) -> None:
        cls = type(self)
        cls.asked += 1
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != "Bearer upstream-secret":
            self._answer(401, {"error": {"message": f"bad key {self.headers['authorization']}"}})
        elif body["model"] == "far-busy" and cls.asked == 1:
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()
        elif body["model"] == "far-picky":
            self._answer(
                400, {"error": {"message": "upstream-secret is no prompt", "code": "bad", "param": "messages"}}
            )
        elif body["model"] == "far-agent":
            self._use_a_tool(body)
        elif body.get("stream"):
            self._stream()
        else:
            message = {"role": "assistant", "content": "from afar", "refusal": None}
            self._answer(200, {
                "id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            })  # fmt: skip

    def _use_a_tool(self, body: Any) -> None:
        """Compute with the tool that is offered, then tell what it said."""
        type(self).bodies.append(body)
        type(self).betas.append(self.headers["anthropic-beta"])
        wires: dict[str, type[Lab]] = {
            "chat/completions": ChatLab,
            "responses": ResponsesLab,
            "messages": MessagesLab,
        }
        wire = wires[self.path.removeprefix("/v1/")]
        told = wire.result(body)
        ours = ("math_evaluate", {"expression": "6*7"})
        reply = wire.says(f"It is {json.loads(told[0])['exact']}.") if told else wire.says("", ours)
        if not body.get("stream"):
            self._answer(200, {**reply, "model": body["model"]})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in wire.events(reply):
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n" if wire is ChatLab else b"")

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        try:
            for number in range(1000):
                choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
                chunk = {
                    "id": "c",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "far",
                    "choices": [choice],
                }
                self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            type(self).cut.set()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


@pytest.fixture
def provider() -> Iterator[Any]:
    handler = type("Provider", (_Provider,), {"asked": 0, "bodies": [], "betas": [], "cut": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server, handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def url(start: Any) -> Iterator[str]:
    with start() as client:
        yield client.gateway.address()["url"] + "/v1"


@pytest.fixture
def ai(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


def say(ai: Any, text: Any, **options: Any) -> Any:
    return ai.chat.completions.create(model="smol", messages=[{"role": "user", "content": text}], **options)


def test_models_are_listed_and_found(ai: Any) -> None:
    assert [model.id for model in ai.models.list()] == ["smol", "smol-embed"]
    assert ai.models.retrieve("smol").owned_by == "smol"
    with pytest.raises(openai.NotFoundError) as caught:
        ai.models.retrieve("a/b")
    assert caught.value.code == "model_not_found"


def test_a_question_is_answered_in_words(ai: Any) -> None:
    answer = say(ai, "What is 2^10 / 3?")
    assert answer.choices[0].message.content.startswith("2^10 / 3 = 1024/3 ≈ 341.333")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.smol_calls[0]["operation"] == "math.evaluate"


def test_what_was_remembered_is_recalled(ai: Any) -> None:
    say(ai, "Remember that my locker is 42")
    assert say(ai, "What is my locker?").choices[0].message.content == "locker is 42."
    say(ai, "forget my locker")
    assert "remember nothing" in say(ai, "What is my locker?").choices[0].message.content


def test_a_stream_has_one_id_one_role_and_one_end(ai: Any) -> None:
    options = {"include_usage": True}
    chunks = list(say(ai, "convert 5 miles to km", stream=True, stream_options=options))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert [bool(choice.delta.role) for choice in choices] == [True] + [False] * (len(choices) - 1)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert "8.04672 km" in "".join(choice.delta.content or "" for choice in choices)
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.usage is None for chunk in say(ai, "1+1", stream=True))


def test_the_streaming_helper_of_the_client_follows(ai: Any) -> None:
    with ai.chat.completions.stream(model="smol", messages=[{"role": "user", "content": "6*7"}]) as stream:
        stream.until_done()
        assert "42" in stream.get_final_completion().choices[0].message.content


def test_tools_go_there_and_back(ai: Any) -> None:
    call = say(ai, "Please add 3 and 4", tools=[ADD]).choices[0]
    assert call.finish_reason == "tool_calls"
    made = call.message.tool_calls[0]
    assert (made.function.name, json.loads(made.function.arguments)) == ("add", {"a": 3, "b": 4})
    messages = [
        {"role": "user", "content": "Please add 3 and 4"},
        call.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": made.id, "content": "7"},
    ]
    answer = ai.chat.completions.create(model="smol", messages=messages, tools=[ADD])
    assert "7" in answer.choices[0].message.content
    messages[2]["tool_call_id"] = "call_nobody"
    with pytest.raises(openai.BadRequestError) as caught:
        ai.chat.completions.create(model="smol", messages=messages, tools=[ADD])
    assert caught.value.param == "messages[2].tool_call_id"
    chunks = list(say(ai, "Please add 3 and 4", tools=[ADD], stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert json.loads("".join(delta.function.arguments for delta in deltas)) == {"a": 3, "b": 4}
    assert {delta.index for delta in deltas} == {0}


def test_the_choice_of_tools_is_honoured(ai: Any) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    assert say(ai, "Hello", tools=[ADD], tool_choice=named).choices[0].message.tool_calls
    assert say(ai, "Hello", tools=[ADD], tool_choice="required").choices[0].message.tool_calls
    assert not say(ai, "add 1 and 2", tools=[ADD], tool_choice="none").choices[0].message.tool_calls


def test_an_answer_fits_the_schema_that_was_asked_for(ai: Any) -> None:
    properties: dict[str, Any] = {"result": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["result"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    answer = say(ai, "convert 3000 m to km", response_format=form).choices[0].message.content
    assert set(json.loads(answer)) == {"result"}
    assert isinstance(
        json.loads(say(ai, "1+1", response_format={"type": "json_object"}).choices[0].message.content), dict
    )
    properties["result"]["pattern"] = "x"
    with pytest.raises(openai.BadRequestError, match="pattern"):
        say(ai, "1+1", response_format=form)


def test_stops_limits_and_copies(ai: Any) -> None:
    whole = say(ai, "help").choices[0].message.content
    cut = say(ai, "help", stop=["pictur"]).choices[0]
    assert cut.message.content == whole[: whole.index("pictur")]
    assert cut.finish_reason == "stop"
    short = say(ai, "help", max_completion_tokens=3).choices[0]
    assert whole.startswith(short.message.content)
    assert short.finish_reason == "length"
    assert [choice.index for choice in say(ai, "1+1", n=3).choices] == [0, 1, 2]
    streamed = "".join(c.choices[0].delta.content or "" for c in say(ai, "help", stop=["pictur"], stream=True))
    assert streamed == cut.message.content


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"n": 0}, "n"),
        ({"temperature": 9}, "temperature"),
        ({"extra_body": {"temprature": 1}}, "temprature"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stop": ["a"] * 5}, "stop"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(ai: Any, options: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        say(ai, "1+1", **options)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "source",
    ["http://127.0.0.1/a.png", "file:///etc/passwd", "http://169.254.169.254/", "data:image/png;base64,???"],
)
def test_pictures_are_not_fetched(ai: Any, source: str) -> None:
    part = {"type": "image_url", "image_url": {"url": source}}
    with pytest.raises(openai.BadRequestError) as caught:
        say(ai, [{"type": "text", "text": "what is this"}, part])
    assert caught.value.param == "messages[0].content[1].image_url.url"


def test_a_picture_is_looked_at(ai: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    answer = say(ai, [{"type": "text", "text": "What is in this picture?"}, part])
    assert {call["operation"] for call in answer.smol_calls} <= {"detect.image", "classify.image"}
    assert answer.choices[0].message.content


def test_an_unknown_model_and_a_long_conversation_have_their_codes(ai: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ai.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hi"}])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        say(ai, "word " * 40_000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError, match="smol-embed"):
        ai.embeddings.create(model="smol", input="x")


def test_embeddings_are_the_same_in_both_formats(ai: Any) -> None:
    texts = ["resize a photo", "resizing photos", "boil an egg"]
    plain = ai.embeddings.create(model="smol-embed", input=texts, encoding_format="float")
    assert plain.usage.total_tokens == 8
    # By itself the client asks for base64, and unpacks it; then it can't be strict.
    lenient = openai.OpenAI(base_url=ai.base_url, api_key=ai.api_key)
    packed = lenient.embeddings.create(model="smol-embed", input=texts)
    vectors = [each.embedding for each in plain.data]
    assert [each.embedding for each in packed.data] == vectors
    first, second, other = vectors
    assert math.fsum(map(mul, first, second)) > math.fsum(map(mul, first, other)) + 0.1


def test_completions_of_the_older_kind(ai: Any, url: str) -> None:
    assert "42" in ai.completions.create(model="smol", prompt="6*7").choices[0].text
    # The client's own type does not know the null that stands for an end that is not there yet.
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as lenient:
        chunks = list(lenient.completions.create(model="smol", prompt="6*7", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "6*7 = 42"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]


def test_responses_go_on_from_one_another(ai: Any) -> None:
    first = ai.responses.create(model="smol", input="6*7")
    assert "42" in first.output_text
    assert first.status == "completed"
    assert ai.responses.retrieve(first.id).output_text == first.output_text
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    seen = ai.responses.create(
        model="smol", input=[{"role": "user", "content": [{"type": "input_text", "text": "what is this?"}, image]}]
    )
    again = ai.responses.create(model="smol", input="How many dogs are there?", previous_response_id=seen.id)
    assert "picture (a data" not in again.output_text
    ai.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        ai.responses.retrieve(first.id)


def test_a_response_streams_its_events_in_order(ai: Any) -> None:
    events = list(ai.responses.create(model="smol", input="6*7", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text


def test_functions_of_a_response_go_there_and_back(ai: Any) -> None:
    tool = {"type": "function", **ADD["function"], "strict": False}
    first = ai.responses.create(model="smol", input="Please add 3 and 4", tools=[tool])
    call = first.output[0]
    assert (call.type, json.loads(call.arguments)) == ("function_call", {"a": 3, "b": 4})
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "7"}]
    assert (
        "7"
        in ai.responses.create(model="smol", input=output, previous_response_id=first.id, tools=[tool]).output_text
    )
    with ai.responses.stream(model="smol", input="Please add 3 and 4", tools=[tool]) as stream:
        assert stream.get_final_response().output[0].name == "add"


def test_files_are_kept_and_looked_at(ai: Any) -> None:
    file = ai.files.create(file=("dot.png", base64.b64decode(PNG), "image/png"), purpose="vision")
    assert [found.id for found in ai.files.list()] == [file.id]
    assert ai.files.content(file.id).read() == base64.b64decode(PNG)
    part = {"type": "input_image", "file_id": file.id, "detail": "auto"}
    assert ai.responses.create(model="smol", input=[{"role": "user", "content": [part]}]).output_text
    ai.files.delete(file.id)
    for missing in (file.id, "../../keys", "file-" + "0" * 24):
        with pytest.raises(openai.NotFoundError):
            ai.files.retrieve(missing)


def test_messages_of_anthropics_kind(ai: Any, url: str) -> None:
    def post(path: str, **body: Any) -> Any:
        return ai._client.post(f"{url}{path}", json={"model": "smol", "max_tokens": 1000, **body})

    user = {"role": "user", "content": "6*7"}
    whole = post("/messages", messages=[user]).json()
    assert (whole["type"], whole["stop_reason"], whole["content"][0]["text"]) == (
        "message",
        "end_turn",
        "6*7 = 42",
    )
    events = re.findall(r"^event: (\S+)$", post("/messages", messages=[user], stream=True).text, re.MULTILINE)
    assert (events[0], events[-2], events[-1]) == ("message_start", "message_delta", "message_stop")
    tool = {"name": "add", "input_schema": ADD["function"]["parameters"]}
    called = post("/messages", messages=[{"role": "user", "content": "add 3 and 4"}], tools=[tool]).json()
    assert called["stop_reason"] == "tool_use"
    assert called["content"][0]["input"] == {"a": 3, "b": 4}
    assert post("/messages/count_tokens", messages=[user]).json() == {"input_tokens": 3}
    wrong = post("/messages", messages=[])
    assert (wrong.status_code, wrong.json()["type"]) == (400, "error")


def test_a_provider_answers_for_its_models(start: Any, provider: Any, tmp_path: Any, monkeypatch: Any) -> None:
    server, handler = provider
    monkeypatch.setenv("FAR_KEY", "upstream-secret")
    table = tmp_path / "smol.toml"
    table.write_text(
        f'[gateway.upstreams.far]\nurl = "http://127.0.0.1:{server.server_port}/v1"\n'
        'models = ["far-*", "named"]\nkey_variable = "FAR_KEY"\n'
        f'[gateway.upstreams.wrong]\nurl = "http://127.0.0.1:{server.server_port}/v1"\nmodels = ["wrong"]\n'
        '[gateway.upstreams.gone]\nurl = "http://127.0.0.1:9/v1"\nmodels = ["gone"]\nretries = 0\n'
    )
    with start(SMOL_CONFIG=str(table)) as client:
        url = client.gateway.address()["url"] + "/v1"
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as ai:

            def ask(model: str, **options: Any) -> Any:
                return ai.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "hi"}], **options
                )

            assert [model.id for model in ai.models.list()] == ["smol", "smol-embed", "named", "wrong", "gone"]
            assert ask("far-busy").choices[0].message.content == "from afar"
            assert handler.asked == 2
            with pytest.raises(openai.BadRequestError) as picky:
                ask("far-picky")
            assert picky.value.param == "messages"
            with pytest.raises(openai.InternalServerError) as wrong:
                ask("wrong")
            assert wrong.value.status_code == 502
            with pytest.raises(openai.InternalServerError) as gone:
                ask("gone")
            assert gone.value.status_code == 503
            for caught in (picky, wrong, gone):
                assert "upstream-secret" not in caught.value.response.text
            with ask("far-slow", stream=True) as stream:
                assert next(iter(stream)).choices[0].delta.content == "0 "
            assert handler.cut.wait(10)


OURS: Any = [{"type": "smol", "operations": ["math.*"]}]
"""Our operations among the tools of a provider's model."""


@pytest.fixture
def far(start: Any, provider: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a Smol that has a provider whose model `far-agent` uses tools."""
    monkeypatch.setenv("FAR_KEY", "upstream-secret")
    table = tmp_path / "smol.toml"
    table.write_text(
        f'[gateway.upstreams.far]\nurl = "http://127.0.0.1:{provider[0].server_port}/v1"\n'
        'models = ["far-*"]\nkey_variable = "FAR_KEY"\n'
    )
    with start(SMOL_CONFIG=str(table)) as client:
        url = client.gateway.address()["url"] + "/v1"
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True) as ai:
            yield ai


def test_a_providers_model_uses_our_operations_in_a_chat(far: Any, provider: Any) -> None:
    def ask(**options: Any) -> Any:
        messages = [{"role": "user", "content": "6*7?"}]
        return far.chat.completions.create(model="far-agent", messages=messages, tools=OURS, **options)

    answer = ask()
    assert answer.choices[0].message.content == "It is 42."
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage.total_tokens == 24
    assert answer.smol_calls[0]["operation"] == "math.evaluate"
    with ask(stream=True) as stream:
        texts = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]
        assert "".join(texts) == "It is 42."
    assert provider[1].asked == 4


def test_a_providers_model_uses_our_operations_in_a_response(far: Any, provider: Any) -> None:
    asked: Any = {"model": "far-agent", "input": "6*7?", "tools": OURS}
    answer = far.responses.create(**asked)
    assert (answer.output_text, answer.status) == ("It is 42.", "completed")
    assert answer.usage.total_tokens == 24
    assert answer.smol_calls[0]["operation"] == "math.evaluate"
    with far.responses.stream(**asked) as stream:
        numbers = [event.sequence_number for event in stream]
        streamed = stream.get_final_response()
    assert numbers == list(range(len(numbers)))
    assert streamed.output_text == "It is 42."
    assert [item.type for item in streamed.output] == ["reasoning", "reasoning", "message"]
    # The provider goes on from its own last answer, under an id that the caller never saw.
    far.responses.create(model="far-agent", input="And?", previous_response_id=streamed.id)
    last = provider[1].bodies[-1]["previous_response_id"]
    assert last.startswith("resp_")
    assert last != streamed.id


def test_a_providers_model_uses_our_operations_in_a_message(far: Any, provider: Any) -> None:
    user = {"role": "user", "content": "6*7?"}
    asked = {"model": "far-agent", "max_tokens": 100, "messages": [user], "tools": OURS}
    beta = {"anthropic-beta": "one-2025-01-01,two-2025-02-02"}
    answer = far._client.post(f"{far.base_url}messages", json=asked, headers=beta).json()
    assert provider[1].betas == [beta["anthropic-beta"]] * 2, "in each round"
    assert MessagesLab.seen(answer) == ("It is 42.", [], "end_turn")
    assert answer["usage"]["output_tokens"] == 4
    assert answer["smol_calls"][0]["operation"] == "math.evaluate"
    lines = far._client.post(f"{far.base_url}messages", json={**asked, "stream": True}).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [line[7:] for line in lines if line.startswith("event: ")] == [event["type"] for event in events]
    streamed = MessagesLab.gathered(events)
    assert MessagesLab.seen(streamed) == ("It is 42.", [], "end_turn")
    assert streamed["usage"]["input_tokens"] == 20
    counted = far._client.post(f"{far.base_url}messages/count_tokens", json=asked)
    assert (counted.status_code, counted.json()["type"]) == (400, "error")


def test_a_key_limits_what_the_model_may_do(start: Any, tmp_path: Any) -> None:
    from smol.units.gateway.keys import KeyFile, keys_path

    secret = KeyFile(keys_path(tmp_path / "home" / "data")).create("phone", ["math.*"])
    with start() as client:
        url = client.gateway.address()["url"] + "/v1"
        with openai.OpenAI(base_url=url, api_key=secret, max_retries=0) as ai:
            assert "42" in say(ai, "6*7").choices[0].message.content
            with pytest.raises(openai.PermissionDeniedError):
                say(ai, "remember that x is 1")
            with pytest.raises(openai.PermissionDeniedError):
                say(ai, 'storage.put {"key": "x", "value": 1}')
        with openai.OpenAI(base_url=url, api_key="smol_wrong", max_retries=0) as other:
            refused = other.chat.completions.with_raw_response
            with pytest.raises(openai.AuthenticationError):
                refused.create(model="smol", messages=[{"role": "user", "content": "6*7"}])
