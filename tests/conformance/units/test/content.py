"""A unit whose operations the official suite of the Model Context Protocol knows: `test.image_content`, …"""

from __future__ import annotations

import asyncio
import base64

from smol.errors import FailedPrecondition
from smol.sdk import Attachment, Context, Unit, operation

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\0\0\0"


class Test(Unit):
    """Results of every kind."""

    @operation(read_only=True)
    async def simple_text(self) -> str:
        """Return a text."""
        return "This is a simple text response for testing."

    @operation(read_only=True)
    async def image_content(self) -> Attachment:
        """Return a picture."""
        return Attachment(PNG, "image/png")

    @operation(read_only=True)
    async def audio_content(self) -> Attachment:
        """Return a sound."""
        return Attachment(WAV, "audio/wav")

    @operation(read_only=True)
    async def embedded_resource(self) -> Attachment:
        """Return bytes that are neither."""
        return Attachment(b"This is an embedded resource content.", "text/plain", "note.txt")

    @operation(read_only=True)
    async def multiple_content_types(self) -> list[Attachment]:
        """Return a picture and other bytes."""
        return [Attachment(PNG, "image/png"), Attachment(b'{"test":"data","value":123}', "application/json")]

    @operation(read_only=True)
    async def error_handling(self) -> str:
        """Fail."""
        raise FailedPrecondition("This tool intentionally returns an error for testing")

    @operation(read_only=True)
    async def tool_with_progress(self, context: Context) -> str:
        """Tell of progress."""
        for fraction in (0.0, 0.5, 1.0):
            context.progress(fraction, "working")
            await asyncio.sleep(0.05)
        return "done"

    @operation(read_only=True)
    async def logging_tool(self, context: Context) -> str:
        """Log, which is Smol's own affair and no client's."""
        context.log.info("a line for the log")
        return "logged"

    @operation(read_only=True)
    async def streaming_elicitation(self) -> str:
        """Ask the client nothing."""
        return "nothing was asked"
