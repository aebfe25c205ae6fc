from __future__ import annotations

import pytest

from smol.errors import InvalidArgument
from smol.sandbox.reach import Reach, is_public, plain_host


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1",
        "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
        "2002:7f00:1::1", "2002:808:808::1", "2001:0:7f00:1::1", "2001:db8::1", "100::1",
        "localhost", "2130706433", "0x7f.1", "",
    ],
)  # fmt: skip
def test_no_other_address_is_public(address: str) -> None:
    assert not is_public(address)


def test_names_are_compared_in_lower_case_without_their_final_dot() -> None:
    assert plain_host("Example.ORG.") == "example.org"
    assert plain_host("[::FFFF:127.0.0.1]") in ("::ffff:7f00:1", "::ffff:127.0.0.1")
    for text in ("", ".", "a..b", "-a", "a b", "a/b", "a@b", "[::1", "[x]", "ex\u00e4mple.org", "a\n", "x" * 254):
        assert plain_host(text) is None, text


def test_only_hosts_and_ports_of_the_list_may_be_asked_for() -> None:
    reach = Reach(hosts=("example.org", "*.python.org"), ports=(443,))
    assert reach.objection("example.org", 443) == ""
    assert reach.objection("docs.python.org", 443) == ""
    assert "port 22 is not allowed; allowed: 443" in reach.objection("example.org", 22)
    for host in ("python.org", "evilpython.org", "www.example.org", "example.org.evil.net", "127.0.0.1"):
        assert "not in the list" in reach.objection(host, 443)
    assert Reach(hosts=("*",)).objection("anything.net", 80) == ""


def test_a_private_address_is_admitted_only_with_its_port() -> None:
    reach = Reach(private=(("127.0.0.1", 8000),))
    assert reach.admits("127.0.0.1", 8000)
    assert not reach.admits("127.0.0.1", 8001)
    assert not reach.admits("127.0.0.2", 8000)


@pytest.mark.parametrize("host", ["http://example.org", "*.", "a b", "*.*.org", "example.org:443", ""])
def test_what_is_no_host_is_refused_by_name(host: str) -> None:
    with pytest.raises(InvalidArgument, match=r"\[units\.code\.network\] hosts"):
        Reach(hosts=(host,)).check("units.code.network")
