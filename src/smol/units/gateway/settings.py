"""The settings of the gateway: the table `[gateway]` of smol.toml. Imports no network library."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from smol.errors import FailedPrecondition, InvalidArgument
from smol.sandbox.reach import Reach
from smol.sizes import MIB, Size

__all__ = [
    "Address",
    "AgentSettings",
    "FetchSettings",
    "GatewaySettings",
    "OfferSettings",
    "Upstream",
    "check_exposure",
    "parse_settings",
]

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Upstream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider that speaks OpenAI's API.

    url: its base, as `https://api.example.com/v1`. models: patterns of model names that go there.
    key_variable, key_file: where its API key is; the key itself is never in smol.toml.
    """

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s?#]+\Z")]
    models: tuple[str, ...]
    key_variable: str = ""
    key_file: Path | None = None
    connect_seconds: Seconds = 5.0
    answer_seconds: Seconds = 300.0
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    concurrency: Count = 16
    tokens_per_day: Annotated[int, msgspec.Meta(ge=0)] = 0


class OfferSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which operations a model may be offered.

    allow: patterns of operations that are tools beside those that only read, as `storage.put`.
    deny: patterns of operations that are none, whatever else is said.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class AgentSettings(OfferSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What models of providers may do here, as `[gateway.agent]`: operations offered to them as tools.

    allow: patterns of operations that are offered beside those that only read, as `storage.put`.
    deny: patterns of operations that are not, whatever else is said.
    always: offer them in every chat, response and message of a provider, not only where a request asks for it.
    rounds: of asking the model for one answer; in the last it is to answer with what it has.
    calls: of operations for one answer.
    seconds: for one answer; calls after them are not made.
    """

    deny: tuple[str, ...] = ("lifecycle.*", "memory.*")
    always: bool = False
    rounds: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8
    calls: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 32
    seconds: Seconds = 120.0


class FetchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures at addresses, as `[gateway.fetch]`: fetched for the model `smol` where a request names some.

    hosts: whose pictures are fetched: names, "*.example.org" for all below one, "*" for every public host. With
        none nothing is fetched.
    ports: of those hosts.
    max_picture: largest picture.
    seconds: for all pictures of a request.
    redirects: that are followed for one picture, each checked as the first address was.
    """

    hosts: tuple[str, ...] = ()
    ports: tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...] = (80, 443)
    max_picture_bytes: Size = msgspec.field(name="max_picture", default=16 * MIB)
    seconds: Seconds = 15.0
    redirects: Annotated[int, msgspec.Meta(ge=0, le=20)] = 3

    def __post_init__(self) -> None:
        """Raises ValueError for a host that is none."""
        try:
            self.reach().check("gateway.fetch")
        except InvalidArgument as error:
            raise ValueError(error.message) from None

    def reach(self, private: tuple[tuple[str, int], ...] = ()) -> Reach:
        """What may be connected to. private: addresses that are not public, with ports; no table can name them."""
        return Reach(hosts=self.hosts, ports=self.ports, connect_seconds=min(5.0, self.seconds), private=private)


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway: where it listens, whom it lets in, how much it takes at once.

    listen: address and port for HTTP. One that other machines can reach is refused without a key
        (see `smol key create`).
    socket: Unix socket for HTTP, mode 0600, which needs no key. Default: http.sock beside the host's socket.
    hosts: names under which browsers may reach it, besides localhost and plain addresses.
    origins: web pages of other sites that may call it, as "https://chat.example.com"; none by default.
    max_body: largest body of a request.
    max_held: bodies of all requests together; beyond it requests are told to come back. Files sent to /v1/files
        go to disk instead, as they come.
    body_seconds: time to send a body.
    header_seconds: time to send the headers.
    idle_seconds: a connection without a request is closed after so long.
    connections: at once; the next one is turned away.
    deadline_seconds: of a request that names none by the header `x-deadline-seconds`.
    stream_seconds: longest life of a stream.
    upstreams: one table per provider of language models, [gateway.upstreams.NAME].
    agent: operations as tools for the models of providers.
    fetch: pictures at addresses that requests name.
    """

    listen: str = "127.0.0.1:2048"
    socket: Annotated[Path | None, msgspec.Meta(examples=["/run/smol/http.sock"])] = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body_bytes: Size = msgspec.field(name="max_body", default=32 * MIB)
    max_held_bytes: Size = msgspec.field(name="max_held", default=96 * MIB)
    body_seconds: Seconds = 60.0
    header_seconds: Seconds = 10.0
    idle_seconds: Seconds = 60.0
    connections: Count = 1024
    deadline_seconds: Seconds = 60.0
    stream_seconds: Seconds = 86_400.0
    upstreams: dict[str, Upstream] = msgspec.field(default_factory=dict)
    agent: AgentSettings = AgentSettings()
    fetch: FetchSettings = FetchSettings()

    def __post_init__(self) -> None:
        """Raises ValueError for an address that is none."""
        try:
            Address.parse(self.listen)
        except InvalidArgument as error:
            raise ValueError(error.message) from None

    @property
    def address(self) -> Address:
        return Address.parse(self.listen)


class Address(msgspec.Struct, frozen=True):
    """Where to listen on TCP."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `127.0.0.1:2048`, `[::1]:2048` or `localhost:2048`. Raises InvalidArgument."""
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if host == "localhost":
            host = "127.0.0.1"
        try:
            ipaddress.ip_address(host)
            number = int(port)
            if not 0 <= number <= 65535 or not port.isascii():
                raise ValueError(port)
        except ValueError:
            raise InvalidArgument(f"{text!r} is not an address to listen at: write 127.0.0.1:2048") from None
        return cls(host, number)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def url(self, port: int | None = None) -> str:
        """What to type into a browser. port: the one that was given by the system for port 0."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{port or self.port}"


def parse_settings(table: dict[str, Any]) -> GatewaySettings:
    """The settings as the host hands them on. Raises InvalidArgument."""
    try:
        return msgspec.convert(table, GatewaySettings, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the settings of the gateway are wrong: {error}") from None


def check_exposure(settings: GatewaySettings, keys: int) -> None:
    """Raises FailedPrecondition when other machines could come in without a key. keys: how many there are."""
    if not settings.address.loopback and not keys:
        raise FailedPrecondition(
            f"listen = {settings.listen!r} can be reached by other machines, and there is no key: "
            "run 'smol key create --name NAME' first, or listen at 127.0.0.1:2048"
        )
