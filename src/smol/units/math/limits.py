"""What an expression may cost, and the meter that stops it.

Every operation is charged before it is done, from the size of its operands. So an expression that would
take too long or too much memory is refused while it is still small.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from smol.errors import Cancelled, DeadlineExceeded, ResourceExhausted

if TYPE_CHECKING:
    from smol.sdk import Context

__all__ = [
    "INLINE_COST_US",
    "MAX_BITS",
    "MAX_CALL_DEPTH",
    "MAX_DEPTH",
    "MAX_DIGITS",
    "MAX_ELEMENTS",
    "MAX_EXPONENT",
    "MAX_LENGTH",
    "MAX_SECONDS",
    "Meter",
    "TooHeavyError",
]

MAX_LENGTH = 16_384
"""Characters of an expression."""
MAX_DEPTH = 100
"""Nested brackets, signs, powers and postfix operators."""
MAX_CALL_DEPTH = 200
"""Levels of evaluation in all, those inside user functions included."""
MAX_DIGITS = 10_000
"""Decimal digits of an exact integer, numerator or denominator."""
MAX_BITS = 33_220
"""The same in bits."""
MAX_EXPONENT = 10_000
"""Decimal exponent of a literal."""
MAX_ELEMENTS = 10_000
"""Elements of a vector or matrix."""
MAX_SECONDS = 0.15
"""Time for one expression, whatever the deadline of its call."""
INLINE_COST_US = 800
"""Estimated microseconds that may be spent on the event loop."""


_INTERRUPTED = ("mpmath.", "smol.units.math.")


class TooHeavyError(Exception):
    """The work does not fit the event loop; do it again in a thread."""


class Meter:
    """Counts estimated microseconds.

    inline: raise TooHeavyError beyond INLINE_COST_US, rather than look at the clock.
    seconds: time from now until DEADLINE_EXCEEDED; None for no deadline. Our own bound, MAX_SECONDS, is of the
    thread's processor time, so that a busy machine refuses nothing that a quiet one computes.
    context: a call whose cancellation ends the work.

    As a context manager it also looks at the clock on each call of a Python function in this thread, so that a
    long computation inside a library ends too.
    """

    __slots__ = ("_context", "_deadline", "_unchecked", "_work_end", "inline", "left")

    def __init__(self, *, inline: bool, seconds: float | None = None, context: Context | None = None) -> None:
        self.inline = inline
        self._context = context
        self.left = INLINE_COST_US if inline else int(MAX_SECONDS * 1_000_000)
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._work_end = 0.0
        self._unchecked = 0

    def __enter__(self) -> None:
        if not self.inline:
            self._work_end = time.thread_time() + MAX_SECONDS
            sys.setprofile(self._on_call)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.inline:
            sys.setprofile(None)

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> None:
        # Not in a callback of the collector, where Python would drop the error and stop calling us.
        if event == "call" and frame.f_globals.get("__name__", "").startswith(_INTERRUPTED):
            self.check()

    def charge(self, cost_us: int) -> None:
        """Account for work about to be done. Raises instead of letting it start."""
        self.left -= cost_us
        if self.left < 0:
            if self.inline:
                raise TooHeavyError
            raise _exhausted()
        if self.inline:
            return
        self._unchecked += cost_us
        if self._unchecked > 200:
            self._unchecked = 0
            self.check()

    def check(self) -> None:
        """Raise when the time is over."""
        if not self.inline:
            if time.thread_time() > self._work_end:
                raise _exhausted()
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise DeadlineExceeded("the call's deadline passed while the expression was evaluated")
        if self._context is not None and self._context.cancelled:
            raise Cancelled("the caller went away")

    def leave_loop(self) -> None:
        """Say that what follows must not run on the event loop."""
        if self.inline:
            raise TooHeavyError

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock: loading a library is not the expression's fault."""
        started = time.thread_time()
        sys.setprofile(None)
        try:
            yield
        finally:
            self._work_end += time.thread_time() - started
            sys.setprofile(self._on_call)

    def charge_bits(self, bits: int) -> None:
        """Account for one exact operation on numbers of `bits` bits."""
        if bits > 2 * MAX_BITS:
            raise too_many_digits()
        self.charge(2 + bits * bits // 1_000_000)


def _exhausted() -> ResourceExhausted:
    return ResourceExhausted(
        f"the expression needs more than the {int(MAX_SECONDS * 1000)} ms of work one evaluation may take",
        limit_ms=int(MAX_SECONDS * 1000),
    )


def too_many_digits() -> ResourceExhausted:
    """The error for an exact number beyond MAX_DIGITS."""
    return ResourceExhausted(
        f"an exact number in this expression would have more than {MAX_DIGITS} digits, the limit; "
        "use a smaller exponent or argument",
        limit_digits=MAX_DIGITS,
    )
