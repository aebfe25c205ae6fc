"""From what a sandbox left to what the caller is told."""

from __future__ import annotations

import mimetypes

import msgspec

from smol.sandbox.proxy import Contact
from smol.sandbox.records import Isolation, Outcome
from smol.sdk import Attachment
from smol.sizes import KIB
from smol.units.code.records import Artifact, Run

__all__ = ["run_of"]

_MOST_JSON_BYTES = 300 * KIB
"""Of each stream: with a value, and all else, a result stays below what a message may hold."""


def run_of(outcome: Outcome, isolation: Isolation, contacts: list[Contact], *, with_output: bool = True) -> Run:
    """The result of a run. with_output: else its output was told before."""
    return Run(
        verdict=outcome.verdict,
        stdout=_text(outcome.stdout) if with_output else "",
        stderr=_text(outcome.stderr) if with_output else "",
        stdout_bytes=outcome.stdout_bytes,
        stderr_bytes=outcome.stderr_bytes,
        value=outcome.value,
        value_text=outcome.value_text,
        exit_status=outcome.exit_status,
        signal=outcome.signal,
        artifacts=[_artifact(product.name, product.data) for product in outcome.products],
        left_out=outcome.left_out,
        contacts=contacts,
        wall_ms=round(outcome.wall_ms, 3),
        cpu_ms=None if outcome.cpu_ms is None else round(outcome.cpu_ms, 3),
        peak_memory_bytes=outcome.peak_memory_bytes,
        isolation=isolation,
    )


def _artifact(name: str, data: bytes) -> Artifact:
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    attachment = Attachment(data, media_type, name.rpartition("/")[2])
    return Artifact(name=name, bytes=len(data), media_type=media_type, attachment=attachment)


def _text(data: bytes) -> str:
    """What of it fits: bytes that JSON has to escape take up to six times their room."""
    text = data.decode("utf-8", "replace")
    while (size := len(msgspec.json.encode(text))) > _MOST_JSON_BYTES:
        text = text[: len(text) * _MOST_JSON_BYTES // size]
    return text
