from __future__ import annotations

from typing import Any, cast

import pytest

from smol.errors import ResourceExhausted
from smol.host.keeper import Keeper
from smol.host.loads import Loads
from smol.policy.decisions import Admit
from smol.policy.governor import Governor
from smol.policy.ledger import Kind
from smol.policy.workers import Ask, Model, Variant, Worker

MIB = 1 << 20
MODEL = Model("detect", "m", (Variant("fp32", 40 * MIB), Variant("int8", 20 * MIB)))


class Desk:
    """A keeper that answers as it is told, and notes what was asked of it."""

    def __init__(self) -> None:
        self.governor = Governor(100 * MIB)
        self.governor.declare(Worker("detect", 10 * MIB))
        self.refusals: list[ResourceExhausted] = []
        self.asked: list[tuple[Ask, str]] = []
        self.left: list[str] = []

    def ticket(self, what: str) -> str:
        return f"{what} #{len(self.asked)}"

    async def ask(self, ask: Ask, held: str = "") -> Admit:
        self.asked.append((ask, held))
        if self.refusals:
            raise self.refusals.pop()
        return Admit(ask.ticket, ask.worker, "fp32", True, MIB, "there is room")

    def leave(self, ticket: str) -> None:
        self.left.append(ticket)

    def carry_out(self, decisions: Any) -> None:
        assert decisions == ()


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_load_that_is_settled_leaves_its_ticket_whether_it_worked_or_not(desk: Desk) -> None:
    loads = Loads(cast("Keeper", desk))
    for loaded in (True, False):
        admit = await loads.load("detect", MODEL, 10.0, repeatable=True)
        loads.settle(admit.ticket, loaded=loaded)
    assert [ask.model for ask, _ in desk.asked] == [MODEL, MODEL]
    assert desk.left == [ask.ticket for ask, _ in desk.asked]


async def test_the_room_that_a_call_waited_for_outside_is_given_up_for_its_load(desk: Desk) -> None:
    loads = Loads(cast("Keeper", desk))
    desk.refusals = [ResourceExhausted("no room yet", repeat="yes")]
    with pytest.raises(ResourceExhausted):
        await loads.load("detect", MODEL, 10.0, repeatable=True)
    wish = desk.asked[-1][0].ticket
    held = await loads.find_room(wish, 20.0)
    found = desk.asked[-1][0]
    assert (found.kind, found.bytes, found.beside, found.deadline) == (Kind.MODEL, 40 * MIB, "detect", 20.0)
    await loads.load("detect", MODEL, 20.0, repeatable=True)
    assert desk.asked[-1][1] == held == found.ticket
    await loads.load("detect", MODEL, 20.0, repeatable=True)
    assert desk.asked[-1][1] == ""


async def test_a_refusal_for_good_is_no_wish(desk: Desk) -> None:
    loads = Loads(cast("Keeper", desk))
    desk.refusals = [ResourceExhausted("it can never fit")]
    with pytest.raises(ResourceExhausted):
        await loads.load("detect", MODEL, 10.0, repeatable=False)
    with pytest.raises(KeyError):
        await loads.find_room(desk.asked[-1][0].ticket, 20.0)
