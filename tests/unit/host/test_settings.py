from __future__ import annotations

from pathlib import Path

import pytest

from smol.errors import InvalidArgument
from smol.host.settings import HostSettings, locations_of

HOME = {"SMOL_HOME": "/srv/smol"}


def test_without_settings_the_users_places_are_used() -> None:
    places = locations_of(HostSettings(), HOME)
    assert places.data == Path("/srv/smol/data")
    assert places.socket == Path("/srv/smol/run/smol.sock")


def test_each_place_can_be_set_alone() -> None:
    places = locations_of(HostSettings(cache_directory=Path("/c"), socket=Path("/s.sock")), HOME)
    assert (places.cache, places.socket, places.data) == (Path("/c"), Path("/s.sock"), Path("/srv/smol/data"))


def test_the_socket_follows_the_runtime_directory_unless_it_is_named() -> None:
    settings = HostSettings(runtime_directory=Path("/r"))
    assert locations_of(settings, HOME).socket == Path("/r/smol.sock")
    assert locations_of(settings, {**HOME, "SMOL_SOCKET": "/s.sock"}).socket == Path("/s.sock")


def test_a_socket_path_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="107"):
        locations_of(HostSettings(socket=Path("/" + "x" * 200)), HOME)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="default_deadline_seconds"):
        HostSettings(default_deadline_seconds=100, max_deadline_seconds=10)
    with pytest.raises(ValueError, match="ping_timeout_seconds"):
        HostSettings(ping_timeout_seconds=1)
