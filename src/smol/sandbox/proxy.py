"""The only way from a sandbox to other hosts: an HTTP proxy that serves one run and checks every connection.

The sandbox's network namespace is empty but for its loopback. On it listens a socket that was made inside and
handed out, so whoever is connected here is the code of that one run. Covers CONNECT and plain HTTP, one request a
connection.
What goes through a tunnel is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from typing import Self

import msgspec

from smol.sandbox.addresses import Resolve, admitted_addresses, look_up
from smol.sandbox.reach import Reach, read_authority

__all__ = ["Contact", "Proxy"]

_HEAD_BYTES = 32 << 10
_HEAD_SECONDS = 10.0
_LINGER_SECONDS = 1.0
_PIECE_BYTES = 32 << 10
_AT_ONCE = 8
_CONTACTS = 100
_REQUEST = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]{1,16384}) HTTP/1\.[01]")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_OWN_HEADERS = {b"host", b"connection", b"keep-alive", b"upgrade", b"te", b"trailer"}
_REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    429: "Too Many Requests",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


class Contact(msgspec.Struct, kw_only=True, eq=False):
    """One connection that the code asked for. address: what was connected to; refused: why it was not."""

    host: str
    port: int
    address: str = ""
    sent_bytes: int = 0
    received_bytes: int = 0
    refused: str = ""


class _Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Proxy:
    """Serves the connections of one run while it is entered. contacts: the first hundred that were asked for."""

    def __init__(self, reach: Reach, listener: socket.socket, resolve: Resolve = look_up) -> None:
        self.contacts: list[Contact] = []
        self._reach = reach
        self._listener = listener
        self._resolve = resolve
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._over = False
        self._asked = 0
        self._spent_bytes = 0

    async def __aenter__(self) -> Self:
        self._listener.setblocking(False)
        self._server = await asyncio.start_server(
            self._accept, sock=self._listener, limit=_HEAD_BYTES, backlog=_AT_ONCE
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        self._over = True

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(lambda _: self._served(task, writer))

    def _served(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        """However a connection ended, and be it before it was looked at, it is closed."""
        self._serving.discard(task)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last. Whatever the code sends, nothing is raised."""
        self._asked += 1
        contact = Contact(host="", port=0)
        if self._asked > self._reach.connections + _CONTACTS and self._server is not None:
            self._server.close()  # Nobody who wants an answer goes on so long after so many refusals.
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            if len(self._serving) > _AT_ONCE or self._asked > self._reach.connections:
                raise _Refused(429, f"at most {_AT_ONCE} connections at once, {self._reach.connections} in a run")
            await self._pass_on(head, contact, reader, writer)
        except _Refused as error:
            contact.refused = str(error)
            self._note(contact)
            with contextlib.suppress(OSError, TimeoutError):
                writer.write(_answer(error.status, str(error)))
                writer.write_eof()
                # Closed with bytes unread, the connection would be reset and the answer lost.
                async with asyncio.timeout(_LINGER_SECONDS):
                    while await reader.read(_PIECE_BYTES):
                        pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # It went away, was too slow, or said too much before it came to the point.

    async def _pass_on(
        self, head: bytes, contact: Contact, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        tunnel, onward = _understood(head, contact)
        self._note(contact)
        if objection := self._reach.objection(contact.host, contact.port):
            raise _Refused(403, objection)
        remote_reader, remote_writer = await self._dial(contact)
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                self._count(contact, len(onward), 0)
                remote_writer.write(onward)
            sending = asyncio.create_task(self._pump(reader, remote_writer, contact, sends=True))
            try:
                await self._pump(remote_reader, writer, contact, sends=False)
            finally:
                sending.cancel()
                await asyncio.wait([sending])
                if not sending.cancelled():
                    sending.exception()  # looked at: what ended one direction ends the other by itself
        finally:
            remote_writer.transport.abort()  # It has said all it had to say, or the run is over.

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, contact: Contact, *, sends: bool
    ) -> None:
        try:
            while data := await reader.read(_PIECE_BYTES):
                if not self._count(contact, len(data) if sends else 0, 0 if sends else len(data)):
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()

    def _count(self, contact: Contact, sent: int, received: int) -> bool:
        """Whether so many bytes more are within what the run may move."""
        self._spent_bytes += sent + received
        contact.sent_bytes += sent
        contact.received_bytes += received
        if self._spent_bytes > self._reach.most_bytes:
            contact.refused = f"cut: more than {self._reach.most_bytes} bytes in a run"
            return False
        return True

    def _note(self, contact: Contact) -> None:
        if contact not in self.contacts and len(self.contacts) < _CONTACTS:
            self.contacts.append(contact)

    async def _dial(self, contact: Contact) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the first admitted address that answers. Raises _Refused."""
        try:
            async with asyncio.timeout(self._reach.connect_seconds):
                admitted = await admitted_addresses(self._reach, contact.host, contact.port, self._resolve)
                if not admitted:
                    raise _Refused(403, f"host {contact.host} has no public address")
                for address in admitted:
                    with contextlib.suppress(OSError):
                        connection = await asyncio.open_connection(address, contact.port, limit=_PIECE_BYTES)
                        contact.address = address
                        return connection
        except TimeoutError:
            raise _Refused(504, f"host {contact.host} did not answer in time") from None
        except OSError as error:
            raise _Refused(502, f"host {contact.host} can't be resolved: {error}") from None
        raise _Refused(502, f"host {contact.host} refuses connections")


def _understood(head: bytes, contact: Contact) -> tuple[bool, bytes]:
    """Fill in whom a request is for: whether it asks for a tunnel; else the request as its server is to see it."""
    first, *lines = head[:-4].split(b"\r\n")
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise _Refused(400, "this is no request of HTTP/1.1")
    method, target = match[1], match[2].decode()
    tunnel = method == b"CONNECT"
    scheme, _, rest = ("", "", target) if tunnel else target.partition("://")
    if not tunnel and scheme.lower() != "http":
        raise _Refused(400, "ask for http://host/path, or for a tunnel by CONNECT")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    found = read_authority(authority)
    if found is None or (tunnel and found[1] is None):
        raise _Refused(400, f"{authority[:100]!r} names no host")
    contact.host, contact.port = found[0], found[1] or 80
    if tunnel:
        return True, b""
    path = rest[len(authority) :].partition("#")[0]
    path = path if path.startswith("/") else f"/{path}"
    return False, b"".join(
        [
            b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (method, path.encode(), authority.encode()),
            *(b"%s: %s\r\n" % header for header in _headers(lines)),
            b"Connection: close\r\n\r\n",
        ]
    )


def _headers(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Those that go on to the server. Raises _Refused for anything odd."""
    found = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _Refused(400, "a header is malformed")
        if match[1].lower() not in _OWN_HEADERS and not match[1].lower().startswith(b"proxy-"):
            found.append((match[1], match[2].rstrip()))
    return found


def _answer(status: int, reason: str) -> bytes:
    body = f"{reason}\n".encode()
    return (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
