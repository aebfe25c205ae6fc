from __future__ import annotations

import pytest

from smol.errors import InvalidArgument
from smol.units.code.settings import read_settings


def test_there_is_no_network_unless_hosts_are_named() -> None:
    assert read_settings({}).network.hosts == ()
    network = read_settings({"network": {"hosts": ["*.example.org"], "most_bytes": "1MiB"}}).network
    assert (network.hosts, network.ports, network.most_bytes) == (("*.example.org",), (80, 443), 1 << 20)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"hosts": ["https://example.org"]}, "is no host"),
        ({"ports": [0]}, "ports"),
        ({"host": ["example.org"]}, "did you mean 'hosts'"),
        ({"private": [["127.0.0.1", 80]]}, "private"),
    ],
)
def test_what_the_network_table_may_not_say_is_refused(table: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidArgument, match=told):
        read_settings({"network": table})
