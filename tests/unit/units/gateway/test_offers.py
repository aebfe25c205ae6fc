"""What tools of language models may do by their arguments."""

from __future__ import annotations

from typing import Annotated

import pytest

from smol.errors import PermissionDenied
from smol.sdk import Unit, operation, uses
from smol.sdk.schema import describe, operations_of
from smol.units.gateway.offers import limit_to, offers
from smol.units.gateway.settings import OfferSettings


class Vault(Unit):
    @operation(read_only=True)
    async def get(self) -> str:
        """Get."""
        return ""

    @operation(read_only=True)
    async def open(self, key: Annotated[str | None, uses("vault.get")] = None) -> str:
        """Open."""
        return ""


def test_a_tool_calls_nothing_that_is_no_tool_itself() -> None:
    vault = Vault()
    described = describe(vault, "vault", "0", operations_of(vault, "vault").values(), schemas=True)
    both = offers([described], OfferSettings())
    alone = offers([described], OfferSettings(), ["vault.open"])
    assert (list(both), list(alone)) == (["vault_get", "vault_open"], ["vault_open"])
    assert limit_to(both, both["vault_open"], {"key": "a"}) == {"key": "a"}
    assert limit_to(alone, alone["vault_open"], {"key": None}) == {"key": None}
    with pytest.raises(PermissionDenied, match=r"vault\.get"):
        limit_to(alone, alone["vault_open"], {"key": "a"})
