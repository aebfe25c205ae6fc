"""The life of a worker: its states, what moves it between them, and in which order workers start.

Pure. The host's supervisor executes what this decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from smol.errors import FailedPrecondition, InvalidArgument

__all__ = ["TRANSITIONS", "Change", "WorkerState", "advance", "start_order"]


class WorkerState(StrEnum):
    """Where a worker stands.

    declared: known, never started. starting: on its way to its handshake. ready: takes calls.
    draining: finishes what it has. stopped: ended as asked. backing_off: crashed, will be started
    again. failed: crashed too often; needs a person. unavailable: can't run here, for a reason given.
    """

    DECLARED = "declared"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    BACKING_OFF = "backing_off"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


class Change(StrEnum):
    """What happens to a worker."""

    START = "start"
    GREETED = "greeted"
    DRAIN = "drain"
    EXITED = "exited"
    CRASHED = "crashed"
    GAVE_UP = "gave_up"
    CANNOT_RUN = "cannot_run"
    REFUSED = "refused"
    RESET = "reset"


_S, _C = WorkerState, Change

TRANSITIONS: Mapping[WorkerState, Mapping[Change, WorkerState]] = {
    _S.DECLARED: {
        _C.START: _S.STARTING,
        _C.DRAIN: _S.STOPPED,
        _C.CANNOT_RUN: _S.UNAVAILABLE,
        _C.RESET: _S.DECLARED,
    },
    _S.STARTING: {
        _C.GREETED: _S.READY,
        _C.DRAIN: _S.DRAINING,
        _C.CRASHED: _S.BACKING_OFF,
        _C.GAVE_UP: _S.FAILED,
        _C.CANNOT_RUN: _S.UNAVAILABLE,
        _C.REFUSED: _S.STOPPED,
    },
    _S.READY: {_C.DRAIN: _S.DRAINING, _C.CRASHED: _S.BACKING_OFF, _C.GAVE_UP: _S.FAILED},
    _S.DRAINING: {_C.EXITED: _S.STOPPED, _C.CRASHED: _S.STOPPED, _C.DRAIN: _S.DRAINING},
    _S.STOPPED: {_C.START: _S.STARTING, _C.RESET: _S.DECLARED, _C.DRAIN: _S.STOPPED},
    _S.BACKING_OFF: {_C.START: _S.STARTING, _C.DRAIN: _S.STOPPED, _C.RESET: _S.DECLARED, _C.GAVE_UP: _S.FAILED},
    _S.FAILED: {_C.RESET: _S.DECLARED, _C.DRAIN: _S.FAILED},
    _S.UNAVAILABLE: {_C.RESET: _S.DECLARED, _C.DRAIN: _S.UNAVAILABLE},
}


def advance(state: WorkerState, change: Change) -> WorkerState:
    """The state after `change`. Raises FailedPrecondition when that can't happen in `state`."""
    following = TRANSITIONS[state].get(change)
    if following is None:
        raise FailedPrecondition(f"a worker that is {state} can't be changed by {change!r}")
    return following


def start_order(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Names so that each comes after all it needs; stop in reverse.

    needs: what each name needs; a name that is needed but not a key is left out.
    Raises InvalidArgument naming a cycle.
    """
    order: list[str] = []
    done: set[str] = set()
    for root in needs:
        path: list[str] = []
        stack = [(root, iter(needs[root]))] if root not in done else []
        path += [root] if stack else []
        while stack:
            name, rest = stack[-1]
            following = next((need for need in rest if need in needs and need not in done), None)
            if following is None:
                stack.pop()
                path.pop()
                done.add(name)
                order.append(name)
            elif following in path:
                cycle = [*path[path.index(following) :], following]
                raise InvalidArgument(f"units need each other in a circle: {' → '.join(cycle)}")
            else:
                stack.append((following, iter(needs[following])))
                path.append(following)
    return order
