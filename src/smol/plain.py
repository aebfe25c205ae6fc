"""Text from elsewhere on a terminal: it is shown, and steers nothing.

What code in a sandbox, a stored value or a provider says may hold escape sequences, which move the cursor, rename
the window or hide what was printed before, and marks that turn the direction of writing.
"""

from __future__ import annotations

import re

__all__ = ["plain", "plain_json"]

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters of C0 and C1 but tab and new line, and those that embed and override directions."""


def plain(text: str) -> str:
    """With what would steer a terminal written out as in source code: `\\x1b`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def plain_json(text: str) -> str:
    """The same for a JSON document, which stays one of the same meaning."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
