"""Pictures at addresses, from servers on this machine's loopback, and what hostile addresses come to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from smol.errors import ResourceExhausted, SmolError
from smol.sdk import Attachment, Unit, operation
from smol.units.gateway.app import Application
from smol.units.gateway.fetching import MOST_PICTURES, Fetcher
from smol.units.gateway.keys import KeyFile
from smol.units.gateway.problems import Refusal
from smol.units.gateway.settings import FetchSettings, GatewaySettings

LOOPBACK = "127.0.0.1"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 10
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(PNG), PNG)

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


def fixed(answer: bytes) -> Serve:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return serve


def to(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


class Site:
    """A server on the loopback, the only one that may be reached, under the name good.test.

    heads: what it was asked. names: addresses of other names; a list of lists is answered one after the other.
    """

    def __init__(self, serve: Serve, names: dict[str, list[Any]] | None = None, tls: Any = None) -> None:
        self.heads: list[bytes] = []
        self.resolved: list[str] = []
        self._serve = serve
        self._names = {"good.test": [LOOPBACK], **(names or {})}
        self._tls = tls
        with socket.create_server((LOOPBACK, 0)) as free:
            self.port: int = free.getsockname()[1]

    async def fetch(
        self, *urls: str, hold: Callable[[int], None] = lambda count: None, trust: Any = None, **settings: Any
    ) -> list[Attachment]:
        """`{port}` in an address is the server's."""
        async with self.open():
            fetcher = Fetcher(
                FetchSettings(**{"hosts": ("*",), "ports": (self.port,), "seconds": 5.0, **settings}),
                private=((LOOPBACK, self.port),),
                resolve=self._resolve,
                trust=trust,
            )
            wanted = [(url.replace("{port}", str(self.port)), f"p{index}") for index, url in enumerate(urls)]
            return await fetcher.images(wanted, hold)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._accept, LOOPBACK, self.port, ssl=self._tls):
            yield

    async def _resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        if host in self._names:
            found = self._names[host]
            return found.pop(0) if isinstance(found[0], list) else found
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [str(entry[4][0]) for entry in entries]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            await self._serve(head, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def fetch(site: Site, *urls: str, **options: Any) -> list[Attachment]:
    return asyncio.run(asyncio.wait_for(site.fetch(*urls, **options), 20))


def refused(site: Site, *urls: str, **options: Any) -> str:
    with pytest.raises(Refusal) as caught:
        fetch(site, *urls, **options)
    assert (caught.value.status, caught.value.name) == (400, "invalid_image_url")
    return caught.value.message


def test_a_picture_is_fetched_and_told_by_its_first_bytes() -> None:
    site = Site(fixed(OK.replace(b"200 OK", b"200 OK\r\nContent-Type: text/html")))
    (image,) = fetch(site, "http://good.test:{port}?a=1#part")
    assert (image.data, image.media_type) == (PNG, "image/png")
    head = site.heads[0].lower()
    assert head.startswith(b"get /?a=1 http/1.1\r\nhost: good.test:%d\r\n" % site.port)
    assert b"accept-encoding: identity" in head
    assert b"cookie" not in head and b"authorization" not in head


def test_without_hosts_the_refusal_says_which_setting_turns_it_on() -> None:
    site = Site(fixed(OK))
    assert "[gateway.fetch]" in refused(site, "http://good.test:{port}/", hosts=())
    assert site.resolved == []


def test_only_listed_hosts_and_ports_are_asked() -> None:
    site = Site(fixed(OK))
    listed = ("*.good.test",)
    assert "not in the list" in refused(site, "http://good.test:{port}/", hosts=listed)
    assert "not in the list" in refused(site, "http://evilgood.test:{port}/", hosts=listed)
    assert "port 80 is not allowed" in refused(site, "http://good.test/")
    assert "port 22 is not allowed" in refused(site, "http://good.test:22/", ports=(80, 443))
    assert site.resolved == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "127.9.9.9", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "0",
        "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "2852039166", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
        "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fe80::1]", "[fd00:ec2::254]",
        "[ff02::1]", "metadata.test", "mixed.test",
    ],
)  # fmt: skip
def test_no_address_but_public_ones_is_connected_to(host: str) -> None:
    names = {"metadata.test": ["169.254.169.254"], "mixed.test": ["10.0.0.1", "::1", "::ffff:169.254.169.254"]}
    site = Site(fixed(OK), names)
    # The server's own port is the only one of 127.0.0.1 that may be reached here.
    said = refused(site, f"http://{host}:81/", ports=(81,))
    assert "has no public address" in said or "can't be resolved" in said
    assert site.heads == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user@good.test:{port}/", "http://user:secret@good.test:{port}/", "http://good.test:{port}@evil.test/",
        "http://good.test:{port}\\@evil.test/", "http://good.test:{port}/a\\b", "http:good.test:{port}/", "http:///a",
        "http://good.test:{port}/\r\nX-Injected: 1", "http://good.test:{port}/a b", "http://good.test:/",
        "http://good.test:{port}:80/", "http://g%6fod.test:{port}/", "http://gööd.test:{port}/", "https://[::1/",
        "http://[fe80::1%25eth0]:{port}/", "http://good.test:{port}/" + "a" * 9000, "http://1.2.3.4.5 :{port}/",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(url: str) -> None:
    site = Site(fixed(OK))
    assert "it is no address" in refused(site, url)
    assert not site.resolved
    assert not site.heads


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:81/", "has no public address"),
        ("http://169.254.169.254:81/latest/meta-data/", "has no public address"),
        ("//[::1]:81/", "has no public address"),
        ("http://inner.test:81/", "has no public address"),
        ("http://user@good.test:{port}/", "it is no address"),
        ("http://good.test:22/", "port 22 is not allowed"),
        ("file:///etc/passwd", "it is no address"),
        ("gopher://good.test:{port}/", "it is no address"),
        ("/again", "more than 3 redirects"),
        ("", "more than 3 redirects"),
    ],
)
def test_a_redirect_is_checked_like_the_first_address(location: str, reason: str) -> None:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(to(location.replace("{port}", str(site.port))))

    site = Site(serve, {"inner.test": ["192.168.1.1"]})
    assert reason in refused(site, "http://good.test:{port}/", ports=(site.port, 81))


def test_redirects_are_followed_as_far_as_allowed() -> None:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        left = int(head.split()[1][1:])
        writer.write(to(f"/{left - 1}") if left else OK)

    site = Site(serve)
    assert fetch(site, "http://good.test:{port}/3")[0].data == PNG
    assert len(site.heads) == 4
    assert "more than 0 redirects" in refused(site, "http://good.test:{port}/1", redirects=0)


def test_a_name_that_changes_its_mind_gains_nothing() -> None:
    site = Site(fixed(OK), {"rebind.test": [[LOOPBACK], ["169.254.169.254"]]})
    assert fetch(site, "http://rebind.test:{port}/")[0].data == PNG
    assert site.resolved == ["rebind.test"]  # Once: what was checked is what was connected to.
    assert "has no public address" in refused(site, "http://rebind.test:{port}/")


def test_a_picture_that_is_too_large_is_not_read_to_its_end() -> None:
    async def endless(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    held: list[int] = []
    said = refused(Site(endless), "http://good.test:{port}/", hold=held.append, max_picture_bytes=200_000)
    assert "larger than" in said and "max_picture" in said
    assert sum(held) <= 200_000
    announced = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"
    assert "larger than" in refused(Site(fixed(announced)), "http://good.test:{port}/")
    lying = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + PNG.ljust(100_000) + b"\r\n0\r\n\r\n"
    )
    assert "larger than" in refused(Site(fixed(lying)), "http://good.test:{port}/", max_picture_bytes=1000)


def test_what_is_compressed_is_not_unpacked() -> None:
    packed = OK.replace(b"200 OK", b"200 OK\r\nContent-Encoding: gzip")
    assert "compresses" in refused(Site(fixed(packed)), "http://good.test:{port}/")


def test_a_slow_trickle_ends_with_the_time_for_all() -> None:
    async def trickle(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    assert "did not come within 0.3 s" in refused(Site(trickle), "http://good.test:{port}/", seconds=0.3)


@pytest.mark.parametrize("body", [b"", b"<html>this is a page, and no picture</html>", b"RIFF0000WAVE", b"\x89PN"])
def test_what_is_no_picture_is_refused(body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert "no JPEG, PNG" in refused(Site(fixed(answer)), "http://good.test:{port}/")


def test_a_server_that_fails_is_told_of() -> None:
    assert "status 404" in refused(Site(fixed(b"HTTP/1.1 404 No\r\n\r\n")), "http://good.test:{port}/")
    assert "can't be talked to" in refused(Site(fixed(b"SSH-2.0\r\n\r\n")), "http://good.test:{port}/")
    assert "can't be resolved" in refused(Site(fixed(OK)), "http://lost.test:{port}/")
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + PNG
    assert "can't be talked to" in refused(Site(fixed(broken)), "http://good.test:{port}/")


def test_pictures_come_in_order_and_the_one_that_fails_is_named() -> None:
    async def serve(head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK if head.startswith(b"GET /a") else b"HTTP/1.1 404 No\r\n\r\n")

    url = "http://good.test:{port}/"
    assert len(fetch(Site(serve), url + "a", url + "a")) == 2
    with pytest.raises(Refusal) as caught:
        fetch(Site(serve), url + "a", url + "b")
    assert caught.value.param == "p1"
    assert f"at most {MOST_PICTURES}" in refused(Site(serve), *[url + "a"] * (MOST_PICTURES + 1))


def test_what_may_be_held_bounds_what_is_fetched() -> None:
    def hold(count: int) -> None:
        raise ResourceExhausted("full")

    with pytest.raises(SmolError, match="full"):
        fetch(Site(fixed(OK)), "http://good.test:{port}/", hold=hold)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of good.test, signed by itself, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate")
    directory = tmp_path_factory.mktemp("tls")
    made, key = directory / "certificate.pem", directory / "key.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=good.test", "-addext", "subjectAltName=DNS:good.test",
            "-out", made, "-keyout", key,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return made, key


def test_tls_is_verified_against_the_name_and_not_the_address(certificate: tuple[Path, Path]) -> None:
    asked: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.sni_callback = lambda sock, name, of: asked.append(name)
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    site = Site(fixed(OK), {"other.test": [LOOPBACK]}, tls=context)
    assert fetch(site, "https://good.test:{port}/", trust=trust)[0].data == PNG
    assert "can't be talked to" in refused(site, "https://other.test:{port}/", trust=trust)
    assert "can't be talked to" in refused(site, "https://good.test:{port}/")
    assert asked == ["good.test", "other.test", "good.test"]


def test_settings_can_name_no_private_address_and_only_hosts() -> None:
    with pytest.raises(TypeError):
        FetchSettings(private=((LOOPBACK, 80),))  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"\[gateway\.fetch\] hosts"):
        FetchSettings(hosts=("http://example.org",))


class Detect(Unit):
    """Sees a dog in everything."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    @operation(read_only=True)
    async def image(self, image: Attachment) -> dict[str, Any]:
        """See."""
        self.seen.append(bytes(image.data))
        return {"width": 9, "height": 9, "objects": [{"label": "dog", "score": 1.0, "box": {}}]}


def _requests(url: str) -> dict[str, dict[str, Any]]:
    asked = "What is in this picture?"
    chat = [{"type": "text", "text": asked}, {"type": "image_url", "image_url": {"url": url}}]
    response = [{"type": "input_text", "text": asked}, {"type": "input_image", "image_url": url}]
    message = [{"type": "text", "text": asked}, {"type": "image", "source": {"type": "url", "url": url}}]
    return {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": chat}]},
        "/v1/responses": {"input": [{"role": "user", "content": response}]},
        "/v1/messages": {"max_tokens": 99, "messages": [{"role": "user", "content": message}]},
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
def test_each_api_looks_at_a_picture_by_its_address(path: str, ask: Any, fake_host: Any, tmp_path: Path) -> None:
    detect = Detect()
    keys = KeyFile(tmp_path / "keys.json")

    site = Site(fixed(OK))
    body = json.dumps({"model": "smol", **_requests(f"http://127.0.0.1:{site.port}/")[path]}).encode()
    fetcher = Fetcher(FetchSettings(hosts=("*",), ports=(site.port,)), private=((LOOPBACK, site.port),))

    def make(*more: Fetcher) -> Application:
        return Application(GatewaySettings(), fake_host(detect=detect), keys, tmp_path, *more)

    async def scenario() -> tuple[Any, Any, Any]:
        async with site.open():
            found, off = await ask(make(fetcher), path, body), await ask(make(), path, body)
            headers = {"authorization": f"Bearer {keys.create('narrow', ('detect.*',))}"}
            return found, off, await ask(make(fetcher), path, body, headers=headers)

    found, off, denied = asyncio.run(scenario())
    assert found.status == 200 and b"I see 1 dog." in found.body
    assert detect.seen == [PNG]
    assert off.status == 400 and b"[gateway.fetch]" in off.body
    assert denied.status == 403 and b"openai.fetch" in denied.body
