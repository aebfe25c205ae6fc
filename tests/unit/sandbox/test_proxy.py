"""The proxy between a client and a server of the test, both on this machine's loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from smol.sandbox.proxy import Proxy
from smol.sandbox.reach import Reach

LOOPBACK = "127.0.0.1"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with what it was sent first."""
    data = await reader.read(1 << 16)
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + data)
    writer.close()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def talk(
    request: str, *, serve: Serve = echo, names: dict[str, list[str]] | None = None, reach: Reach | None = None
) -> tuple[bytes, Proxy]:
    """All that comes back for one request; `{port}` is the server's, which is the only private one admitted."""

    async def scenario() -> tuple[bytes, Proxy]:
        server = await asyncio.start_server(serve, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]

        async def resolve(host: str, _: int) -> list[str]:
            try:
                return ({"good.test": [LOOPBACK]} | (names or {}))[host]
            except KeyError:
                raise OSError("no such name") from None

        base = reach or Reach(hosts=("good.test", "lost.test", *(names or {})))
        limits = Reach(
            hosts=base.hosts, ports=(port,), private=((LOOPBACK, port),), most_bytes=base.most_bytes,
            connections=base.connections, connect_seconds=base.connect_seconds,
        )  # fmt: skip
        listener = socket.create_server((LOOPBACK, 0))
        async with Proxy(limits, listener, resolve) as proxy:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(request.replace("{port}", str(port)).encode("latin-1"))
            data = b""
            try:
                while part := await reader.read(1 << 16):
                    data += part
            except OSError:
                pass
            writer.close()
        server.close()
        return data, proxy

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def status(data: bytes) -> int:
    return int(data.split()[1])


def test_a_plain_request_goes_on_in_the_servers_own_form() -> None:
    data, proxy = talk(
        "GET http://GOOD.test:{port}/a?b=1#c HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: x\r\n"
        "Connection: keep-alive\r\nX-Own: 1\r\n\r\n"
    )
    sent = data.partition(b"\r\n\r\n")[2]
    assert sent.startswith(b"GET /a?b=1 HTTP/1.1\r\nHost: GOOD.test:")
    assert b"X-Own: 1\r\n" in sent
    assert sent.endswith(b"\r\nConnection: close\r\n\r\n")
    assert b"elsewhere" not in sent
    assert b"Proxy" not in sent
    (contact,) = proxy.contacts
    assert (contact.host, contact.address, contact.refused) == ("good.test", LOOPBACK, "")
    assert contact.sent_bytes == len(sent)
    assert contact.received_bytes == len(data)


def test_a_tunnel_carries_bytes_both_ways() -> None:
    data, _ = talk("CONNECT good.test:{port} HTTP/1.1\r\n\r\nhello")
    assert data.startswith(b"HTTP/1.1 200 ")
    assert data.endswith(b"hello")


@pytest.mark.parametrize(
    "request_line",
    [
        "GET http://other.test:{port}/",
        "GET http://127.0.0.1:{port}/",
        "GET http://[::1]:{port}/",
        "GET http://[::ffff:127.0.0.1]:{port}/",
        "GET http://2130706433:{port}/",
        "GET http://0x7f.1:{port}/",
        "GET http://good.test.evil.net:{port}/",
        "GET http://good.test:1/",
        "CONNECT 169.254.169.254:{port}",
        "CONNECT good.test:22",
    ],
)
def test_what_is_not_in_the_list_is_refused_before_it_is_resolved(request_line: str) -> None:
    data, proxy = talk(f"{request_line} HTTP/1.1\r\n\r\n")
    assert status(data) == 403
    assert proxy.contacts[0].refused
    assert proxy.contacts[0].address == ""


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.2"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fd00::1", "192.168.0.1"],
        [],
    ],
)
def test_an_allowed_name_that_leads_to_a_private_address_is_refused(addresses: list[str]) -> None:
    data, proxy = talk("GET http://turned.test:{port}/ HTTP/1.1\r\n\r\n", names={"turned.test": addresses})
    assert status(data) == 403
    assert proxy.contacts[0].refused == "host turned.test has no public address"


def test_a_name_is_resolved_once_and_that_answer_is_used() -> None:
    asked: list[str] = []

    async def scenario() -> None:
        server = await asyncio.start_server(echo, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]

        async def resolve(host: str, _: int) -> list[str]:
            asked.append(host)
            return [LOOPBACK] if len(asked) == 1 else ["127.0.0.9"]

        listener = socket.create_server((LOOPBACK, 0))
        reach = Reach(hosts=("good.test",), ports=(port,), private=((LOOPBACK, port),))
        async with Proxy(reach, listener, resolve) as proxy:
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(f"GET http://good.test:{port}/ HTTP/1.1\r\n\r\n".encode())
            assert status(await reader.read()) == 200
            writer.close()
        server.close()
        assert proxy.contacts[0].address == LOOPBACK

    asyncio.run(scenario())
    assert asked == ["good.test"]


@pytest.mark.parametrize(
    "request_text",
    [
        "\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n",
        "GET https://good.test:{port}/ HTTP/1.1\r\n\r\n",
        "GET file:///etc/passwd HTTP/1.1\r\n\r\n",
        "GET http://user@good.test:{port}/ HTTP/1.1\r\n\r\n",
        "GET http://good.test:{port}/ HTTP/2\r\n\r\n",
        "GET http://good.test:{port}/a b HTTP/1.1\r\n\r\n",
        "GET http://good.test:{port}/ HTTP/1.1\r\n folded: x\r\n\r\n",
        "GET http://good.test:{port}/ HTTP/1.1\r\nX: a\rHost: b\r\n\r\n",
        "GET http://good.test:{port}/ HTTP/1.1\r\nX : a\r\n\r\n",
        "GET http://good.test:{port}/ HTTP/1.1\r\nX: a\x00\r\n\r\n",
        "CONNECT good.test HTTP/1.1\r\n\r\n",
        "CONNECT good.test:99999999 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_for_a_proxy_is_refused(request_text: str) -> None:
    assert status(talk(request_text)[0]) == 400


def test_a_head_that_does_not_end_is_cut() -> None:
    assert talk("GET http://good.test/ HTTP/1.1\r\nX: " + "a" * 100_000)[0] == b""


def test_a_name_that_is_not_known_is_told() -> None:
    data, _ = talk("GET http://lost.test:{port}/ HTTP/1.1\r\n\r\n")
    assert status(data) == 502
    assert b"no such name" in data


def test_a_run_moves_no_more_bytes_than_it_may() -> None:
    reach = Reach(hosts=("good.test",), most_bytes=1 << 20)
    data, proxy = talk("CONNECT good.test:{port} HTTP/1.1\r\n\r\n", serve=flood, reach=reach)
    assert len(data) <= (1 << 20) + 64
    assert proxy.contacts[0].refused == "cut: more than 1048576 bytes in a run"


def test_a_run_makes_no_more_connections_than_it_may() -> None:
    async def scenario() -> list[int]:
        listener = socket.create_server((LOOPBACK, 0))
        found = []
        async with Proxy(Reach(hosts=("a.test",), connections=2), listener) as proxy:
            for _ in range(4):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(b"GET http://b.test/ HTTP/1.1\r\n\r\n")
                found.append(status(await reader.read()))
                writer.close()
        assert len(proxy.contacts) == 4
        return found

    assert asyncio.run(scenario()) == [403, 403, 429, 429]


def test_a_connection_that_is_open_ends_with_the_run() -> None:
    async def scenario() -> bytes:
        listener = socket.create_server((LOOPBACK, 0))
        async with Proxy(Reach(hosts=("a.test",)), listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET ")
            await asyncio.sleep(0)
        data = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return data

    assert asyncio.run(scenario()) == b""
