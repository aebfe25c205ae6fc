"""Forms (`multipart/form-data`), read piece by piece."""

from __future__ import annotations

import contextlib

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from smol.units.gateway.problems import Refusal
from smol.units.gateway.requests import Bodies, Receive, Visit

__all__ = ["MOST_PARTS", "FormReader", "Part", "read_form"]

MOST_PARTS = 512


class Part:
    """One part. data: as far as it has come. file: its name without directories, None for a field."""

    def __init__(self) -> None:
        self.headers: dict[str, bytes] = {}
        self.data = bytearray()
        self.name = ""
        self.file: str | None = None

    @property
    def media_type(self) -> str:
        """As the client says."""
        return self.headers.get("content-type", b"").decode("latin-1") or "application/octet-stream"

    def read_headers(self) -> None:
        """What they say of the part. Raises Refusal 400 for a part without a name."""
        options = parse_options_header(self.headers.get("content-disposition", b""))[1]
        if b"name" not in options:
            raise Refusal(400, "a part of the form has no name")
        self.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self.file = options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]


class FormReader:
    """Takes a form in pieces of any size. Headers of parts are bounded by the library beneath.

    parts: those that have begun; whoever reads may take away what the last one's `data` holds.
    """

    def __init__(self, content_type: bytes) -> None:
        """Raises Refusal 400 for a content type without a boundary."""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Refusal(400, "the form has no boundary in its content-type")
        # Functions that know the parts and not the reader: so a form left half way is no cycle, and goes at once.
        self.parts = parts = list[Part]()
        self._ended = ended = list[bool]()
        field, value = bytearray(), bytearray()

        def begin() -> None:
            if len(parts) >= MOST_PARTS:
                raise Refusal(400, f"the form has more than {MOST_PARTS} parts")
            parts.append(Part())

        def end_header() -> None:
            parts[-1].headers[field.decode("latin-1").lower()] = bytes(value)
            field.clear()
            value.clear()

        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_part_data": lambda data, start, stop: parts[-1].data.extend(data[start:stop]),
                "on_header_field": lambda data, start, stop: field.extend(data[start:stop]),
                "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
                "on_header_end": end_header,
                "on_headers_finished": lambda: parts[-1].read_headers(),
                "on_end": lambda: ended.append(True),
            },
        )

    def feed(self, data: bytes) -> None:
        """The next piece. Raises Refusal 400 for what is no form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refusal(400, f"the form is broken: {error}") from None

    def finish(self) -> list[Part]:
        """There are no more pieces: all parts. Raises Refusal 400 when there should be more."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise Refusal(400, f"the form is broken: {error}") from None
        if not self._ended:
            raise Refusal(400, "the form ends before its last boundary")
        return self.parts


async def read_form(visit: Visit, receive: Receive, bodies: Bodies) -> list[Part]:
    """The parts of a form, each held once. Raises Refusal, 400 for what is no form."""
    reader = FormReader(visit.headers[b"content-type"])
    async with contextlib.aclosing(bodies.pieces(visit, receive)) as pieces:
        async for piece in pieces:
            bodies.hold(visit, len(piece))
            reader.feed(piece)
    return reader.finish()
