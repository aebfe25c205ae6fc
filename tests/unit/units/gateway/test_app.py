"""The gateway's paths, in this process: what they answer, and what they refuse."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from smol.errors import CODES, FailedPrecondition, ResourceExhausted, SmolError
from smol.sdk import Attachment, Context, Unit, operation, uses
from smol.units.gateway.app import Application
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.problems import HTTP_STATUS
from smol.units.gateway.settings import GatewaySettings


class Sizes(msgspec.Struct):
    sizes: list[int]
    first: Attachment | None = None


class Box(Unit):
    """A unit of every kind of operation."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    @operation(read_only=True)
    async def double(self, number: int, label: str = "") -> int:
        """Double a number."""
        return number * 2

    @operation()
    async def measure(self, files: list[Attachment], first: bool = False) -> Sizes:
        """Measure files."""
        return Sizes([len(file) for file in files], files[0] if first else None)

    @operation()
    async def mirror(self, file: Attachment, note: str | None = None) -> Attachment:
        """Give a file back."""
        return file

    @operation()
    async def open(self, key: Annotated[str, uses("vault.get")] = "") -> str:
        """Open it, with a key from the vault when one is named."""
        return key

    @operation()
    async def wait(self) -> None:
        """Wait for ever."""
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    @operation()
    async def fail(self, code: str) -> None:
        """Fail with a code."""
        raise CODES[code](f"as asked: {code}", retry_after_ms=1500)

    @operation()
    async def trace(self, context: Context) -> str:
        """Tell the trace of this call."""
        return context.trace

    @operation()
    async def count(self, to: int, fail_at: int = -1) -> AsyncIterator[int]:
        """Count."""
        for number in range(to):
            if number == fail_at:
                raise ResourceExhausted(f"no more than {number}")
            yield number

    @operation()
    async def tick(self) -> AsyncIterator[int]:
        """Say something once, then nothing."""
        self.started.set()
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "keys.json")


@pytest.fixture
def made(box: Box, keys: KeyFile, fake_host: Any, tmp_path: Path) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        return Application(GatewaySettings(**settings), fake_host(box=box), keys, tmp_path)

    return make


@pytest.fixture
def run(made: Callable[..., Any], ask: Any) -> Callable[..., Any]:
    app: Any = None

    def run_one(path: str, *arguments: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
        nonlocal app
        if app is None or settings is not None:
            app = made(**(settings or {}))
        return asyncio.run(ask(app, path, *arguments, **options))

    return run_one


def form(*parts: tuple[str, str | None, bytes]) -> tuple[bytes, dict[str, str]]:
    lines = b""
    for name, file, data in parts:
        shown = f'; filename="{file}"' if file is not None else ""
        lines += f'--XX\r\nContent-Disposition: form-data; name="{name}"{shown}\r\n\r\n'.encode() + data + b"\r\n"
    return lines + b"--XX--\r\n", {"content-type": "multipart/form-data; boundary=XX"}


def test_an_operation_is_called_by_its_path(run: Any) -> None:
    answer = run("/v1/units/box/double", b'{"number": 21}')
    assert (answer.status, answer.json) == (200, 42)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_status_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == {*CODES, SmolError.code}


@pytest.mark.parametrize("code", sorted(CODES))
def test_an_error_is_a_problem_with_the_status_of_its_code(run: Any, code: str) -> None:
    answer = run("/v1/units/box/fail", json.dumps({"code": code}).encode())
    assert answer.status == HTTP_STATUS[code]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["code"] == code
    assert answer.json["detail"] == f"as asked: {code}"
    assert answer.json["status"] == answer.status
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"number": NaN}',
        b'{"number": 1, "label": "\\ud800"}',
        b'{"number": 1, "label": "\xff"}',
        b"[" * 200_000,
        b'{"number":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"number": "many"}',
        b'{"number": 1, "extra": 2}',
        b"{}",
    ],
)
def test_a_malformed_body_is_refused_and_never_a_fault(run: Any, body: bytes) -> None:
    answer = run("/v1/units/box/double", body)
    assert answer.status == 400
    assert answer.json["code"] == "INVALID_ARGUMENT"


def test_other_types_of_bodies_are_refused(run: Any) -> None:
    answer = run(
        "/v1/units/box/double", b"number=1", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == 415
    assert "multipart/form-data" in answer.headers["accept-post"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/units/box/nothing", 404),
        ("POST", "/v1/units/nobody/double", 404),
        ("GET", "/v1/units/box/double", 405),
        ("POST", "/healthz", 405),
        ("DELETE", "/v1/units", 405),
    ],
)
def test_wrong_paths_and_methods_have_the_same_envelope(run: Any, method: str, path: str, status: int) -> None:
    answer = run(path, method=method)
    assert answer.status == status
    assert answer.json["status"] == status
    assert "x-request-id" in answer.headers
    assert ("allow" in answer.headers) == (status == 405)


def test_files_come_in_a_form_by_the_name_of_their_parameter(run: Any) -> None:
    body, headers = form(("files", "a.txt", b"one"), ("files", "b.txt", b"three"), ("first", None, b"true"))
    answer = run("/v1/units/box/measure", body, headers=headers)
    assert answer.json["sizes"] == [3, 5]
    assert answer.json["first"] == "data:application/octet-stream;base64," + base64.b64encode(b"one").decode()


def test_arguments_of_a_form_may_refer_to_its_files(run: Any) -> None:
    arguments = json.dumps({"files": [{"$attachment": 1}, {"$attachment": 0}]}).encode()
    body, headers = form(("arguments", None, arguments), ("x", "a", b"one"), ("y", "b", b"three"))
    assert run("/v1/units/box/measure", body, headers=headers).json["sizes"] == [5, 3]


def test_a_text_field_of_a_form_stays_text(run: Any) -> None:
    body, headers = form(("number", None, b"2"), ("label", None, b"7"))
    assert run("/v1/units/box/double", body, headers=headers).json == 4


def test_a_field_that_comes_several_times_is_a_list(run: Any) -> None:
    one, three = (base64.b64encode(data).decode() for data in (b"1", b"333"))
    body, headers = form(
        ("files", None, f"data:a/b;base64,{one}".encode()), ("files", None, f"data:a/b;base64,{three}".encode())
    )
    assert run("/v1/units/box/measure", body, headers=headers).json["sizes"] == [1, 3]


@pytest.mark.parametrize("body", [b"", b"--XX\r\n", b"nonsense", b"--XX\r\n\r\nno name\r\n--XX--\r\n"])
def test_a_broken_form_is_refused(run: Any, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    assert run("/v1/units/box/measure", [body, b""], method="POST", headers=headers).status == 400


def test_a_result_that_is_a_file_is_sent_as_it_is_and_never_run_by_a_browser(run: Any) -> None:
    uri = "data:text/html;base64," + base64.b64encode(b"<script>").decode()
    answer = run("/v1/units/box/mirror", json.dumps({"file": uri}).encode())
    assert answer.body == b"<script>"
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["content-disposition"] == "attachment"


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "@/etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/",
        "data:,x",
        "data:image/png;base64,!",
    ],
)
def test_a_path_or_an_address_is_never_read(run: Any, source: str) -> None:
    answer = run("/v1/units/box/mirror", json.dumps({"file": source}).encode())
    assert answer.status == 400
    assert "root:" not in answer.body.decode()


def test_a_stream_is_events_and_says_its_end(run: Any) -> None:
    answer = run("/v1/units/box/count", b'{"to": 2}')
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == b"data: 0\n\ndata: 1\n\nevent: end\ndata: {}\n\n"


def test_a_stream_is_lines_when_asked_for(run: Any) -> None:
    answer = run("/v1/units/box/count", b'{"to": 3}', headers={"accept": "application/x-ndjson"})
    assert answer.body == b"0\n1\n2\n"


def test_a_failure_before_the_first_item_has_its_own_status(run: Any) -> None:
    assert run("/v1/units/box/count", b'{"to": 3, "fail_at": 0}').status == 429


def test_a_failure_in_mid_stream_is_its_last_event(run: Any) -> None:
    answer = run("/v1/units/box/count", b'{"to": 3, "fail_at": 1}')
    assert answer.status == 200
    first, last = answer.body.strip().split(b"\n\n")
    assert first == b"data: 0"
    assert last.startswith(b"event: error\ndata: {")
    assert json.loads(last.partition(b"data: ")[2])["code"] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("name", ["wait", "tick"])
def test_work_ends_when_its_client_hangs_up(made: Any, ask: Any, box: Box, name: str) -> None:
    async def hang_up_soon() -> Any:
        gone = asyncio.Event()
        asking = asyncio.create_task(ask(made(), f"/v1/units/box/{name}", b"{}", hang_up=gone))
        await box.started.wait()
        gone.set()
        await asyncio.wait_for(box.cancelled.wait(), 5)
        await asking

    asyncio.run(hang_up_soon())


def test_a_trace_reaches_the_unit_and_a_malformed_one_does_not(run: Any) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert run("/v1/units/box/trace", b"{}", headers={"traceparent": trace}).json == trace
    assert run("/v1/units/box/trace", b"{}", headers={"traceparent": "00-bad"}).json == ""


def test_a_request_keeps_the_id_it_came_with(run: Any) -> None:
    assert run("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert run("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused_without_being_held(run: Any, announced: bool) -> None:
    settings = {"max_body_bytes": 100}
    headers = {"content-length": "101"} if announced else {}
    endless = [b"x" * 60] * 1000
    answer = run("/v1/units/box/double", endless, headers=headers, settings=settings)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_all_bodies_together_are_bounded(run: Any) -> None:
    settings = {"max_body_bytes": 1000, "max_held_bytes": 100}
    answer = run("/v1/units/box/double", [b"x" * 60, b"x" * 60, b""], settings=settings)
    assert answer.status == 429
    assert "retry-after" in answer.headers


def test_a_body_that_never_ends_is_cut(made: Any, ask: Any) -> None:
    app = made(body_seconds=0.01)

    async def trickle() -> Any:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/units/box/double",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            return {"type": "http.request", "body": b" ", "more_body": True}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(trickle()) == 408


def test_the_openapi_document_names_every_operation_and_resolves(run: Any) -> None:
    document = run("/openapi.json").json
    assert set(document["paths"]) == {
        f"/v1/units/box/{name}"
        for name in ("double", "measure", "mirror", "open", "wait", "fail", "trace", "count", "tick")
    }
    text = json.dumps(document)
    assert "$defs" not in text
    assert "x-smol-attachment" not in text
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/')[1:]}:
        found = document
        for step in reference.split("/"):
            found = found[step]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:2048", "", "localhost.evil.example"])
def test_names_that_are_not_ours_are_turned_away(run: Any, host: str) -> None:
    assert run("/healthz", headers={"host": host}).status == 421


@pytest.mark.parametrize(
    "host", ["localhost:2048", "127.0.0.1", "[::1]:2048", "192.168.1.5:2048", "box.home:2048"]
)
def test_addresses_and_configured_names_are_ours(run: Any, host: str) -> None:
    assert run("/healthz", headers={"host": host}, settings={"hosts": ("box.home",)}).status == 200


def test_pages_of_other_sites_are_turned_away(run: Any) -> None:
    assert run("/v1/units/box/double", b'{"number": 1}', headers={"origin": "https://evil.example"}).status == 403
    assert run("/v1/units/box/double", b'{"number": 1}', headers={"origin": "null"}).status == 403
    assert run("/v1/units/box/double", b'{"number": 1}', headers={"origin": "http://127.0.0.1:2048"}).status == 200


def test_a_site_that_may_call_is_told_so(run: Any) -> None:
    settings = {"origins": ("https://chat.example",)}
    headers = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    preflight = run("/v1/units/box/double", method="OPTIONS", headers=headers, settings=settings)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
    other = run("/v1/units/box/double", method="OPTIONS", headers={**headers, "origin": "https://evil.example"})
    assert other.status == 403
    assert "access-control-allow-origin" not in other.headers


def test_with_a_key_every_request_but_health_needs_one(run: Any, keys: KeyFile) -> None:
    secret = keys.create("phone")
    assert run("/healthz").status == 200
    for path in ("/v1/units", "/metrics", "/openapi.json", "/nowhere"):
        answer = run(path)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
    assert run("/v1/units", headers={"authorization": "Bearer smol_wrong"}).status == 401
    assert run("/v1/units", headers={"authorization": f"Bearer {secret}"}).status == 200
    assert run("/v1/units", headers={"x-api-key": secret}).status == 200
    assert run("/v1/units", unix=True).status == 200
    keys.revoke("phone")
    assert run("/v1/units").status == 200


def test_a_key_allows_what_it_says_and_nothing_else(run: Any, keys: KeyFile) -> None:
    headers = {"authorization": f"Bearer {keys.create('phone', ['box.d*'])}"}
    assert run("/v1/units/box/double", b'{"number": 1}', headers=headers).status == 200
    for path, method in (("/v1/units/box/measure", "POST"), ("/v1/units", "GET"), ("/metrics", "GET")):
        assert run(path, method=method, headers=headers).status == 403, path


def test_a_key_does_not_cover_what_an_operation_would_call_for_its_caller(run: Any, keys: KeyFile) -> None:
    box, both = (
        keys.create(name, allow) for name, allow in (("box", ["box.*"]), ("both", ["box.*", "vault.get"]))
    )
    path, named = "/v1/units/box/open", b'{"key": "a"}'
    assert run(path, b"{}", headers={"authorization": f"Bearer {box}"}).status == 200
    refused = run(path, named, headers={"authorization": f"Bearer {box}"})
    assert (refused.status, "vault.get" in refused.json["detail"]) == (403, True)
    assert run(path, named, headers={"authorization": f"Bearer {both}"}).status == 200


def test_a_key_that_asks_too_often_is_told_when_to_come_back(run: Any, keys: KeyFile) -> None:
    headers = {"authorization": f"Bearer {keys.create('phone', per_minute=2)}"}
    statuses = [run("/v1/units", headers=headers).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert 1 <= int(run("/v1/units", headers=headers).headers["retry-after"]) <= 30


def test_adding_units_from_this_disk_is_left_to_the_command_line(run: Any) -> None:
    assert run("/v1/units/lifecycle/add", b'{"path": "/tmp"}').status == 403


@pytest.mark.parametrize("listen", ["0.0.0.0:2048", "[::]:2048", "192.168.1.5:80"])
def test_an_open_address_without_a_key_is_refused(listen: str) -> None:
    from smol.units.gateway.settings import check_exposure

    with pytest.raises(FailedPrecondition, match="smol key create"):
        check_exposure(GatewaySettings(listen=listen), 0)
    check_exposure(GatewaySettings(listen=listen), 1)
    check_exposure(GatewaySettings(), 0)


def test_the_documents_of_errors_never_hold_a_key(run: Any, keys: KeyFile) -> None:
    secret = keys.create("phone", ["nothing"])
    answer = run("/v1/units/box/double", b"{}", headers={"authorization": f"Bearer {secret}"})
    assert secret not in answer.body.decode()
