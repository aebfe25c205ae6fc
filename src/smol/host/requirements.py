"""What a unit requires (PEP 508), and whether this interpreter's packages meet it.

Covers reading and comparing requirements. Installing them is `environments`. The library that reads
them is imported on first use: a host whose units require nothing never pays for it.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag

from smol.errors import InvalidArgument

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["missing", "normalise", "refuse_addresses"]


def normalise(requirements: Iterable[str]) -> tuple[str, ...]:
    """The requirements in one spelling, sorted and without repeats. Raises `InvalidArgument`."""
    return tuple(sorted({str(requirement) for requirement in _parse(requirements)}))


def missing(requirements: Iterable[str]) -> list[str]:
    """Those that this interpreter's installed packages do not meet, extras included.

    One whose marker excludes this platform is met. One with an address is met by a package that was
    installed from that address; what lay there then is not compared. Raises `InvalidArgument`.
    """
    return [str(requirement) for requirement in _parse(requirements) if not _met(requirement, "", set())]


def refuse_addresses(requirements: Iterable[str]) -> None:
    """Raises `InvalidArgument` for one that names where to fetch it, or is none."""
    for requirement in _parse(requirements):
        if requirement.url is not None:
            raise InvalidArgument(f"{str(requirement)!r} names an address; only packages of an index are taken")


def _parse(requirements: Iterable[str]) -> Iterator[Requirement]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            raise InvalidArgument(f"{text!r} is not a requirement such as 'numpy>=1.26': {reason}") from None
        requirement.name = canonicalize_name(requirement.name)
        yield requirement


def _met(requirement: Requirement, extra: str, seen: set[tuple[str, str]]) -> bool:
    from packaging.version import InvalidVersion

    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return True
    try:
        distribution = importlib.metadata.distribution(requirement.name)
        if requirement.url is not None and _address(distribution) != unquote(urldefrag(requirement.url).url):
            return False
        if "Version" not in distribution.metadata:
            return False  # left behind by an uninstallation that did not finish
        if not requirement.specifier.contains(distribution.version, prereleases=True):
            return False
    except (FileNotFoundError, importlib.metadata.PackageNotFoundError, InvalidVersion):
        return False
    return all(
        _met(child, each, seen)
        for each in sorted(requirement.extras)
        for child in _added_by(distribution, each, (requirement.name, each), seen)
    )


def _added_by(
    distribution: Distribution, extra: str, visit: tuple[str, str], seen: set[tuple[str, str]]
) -> Iterator[Requirement]:
    """What an extra adds to a package's requirements; nothing on a second visit, as extras may be cyclic."""
    if visit in seen:
        return
    seen.add(visit)
    for child in _parse(distribution.requires or ()):
        marker = child.marker
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            yield child


def _address(distribution: Distribution) -> str | None:
    """Where the package was installed from, as a requirement writes it (`direct_url.json`, PEP 610)."""
    try:
        record = json.loads(distribution.read_text("direct_url.json") or "null")
        address = unquote(record["url"])
        if "vcs_info" in record:
            version_control = record["vcs_info"]
            address = f"{version_control['vcs']}+{address}"
            if revision := version_control.get("requested_revision"):
                address += f"@{revision}"
        return str(address)
    except (ValueError, TypeError, KeyError):
        return None
