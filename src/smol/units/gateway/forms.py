"""Forms (`multipart/form-data`), read whole or piece by piece."""

from __future__ import annotations

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from smol.units.gateway.problems import Refusal

__all__ = ["MOST_PARTS", "FormReader", "Part", "parse_form"]

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


class FormReader:
    """Takes a form in pieces of any size. Headers of parts are bounded by the library beneath.

    parts: those that have begun; whoever reads may take away what the last one's `data` holds.
    """

    def __init__(self, content_type: bytes) -> None:
        """Raises Refusal 400 for a content type without a boundary."""
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise Refusal(400, "the form has no boundary in its content-type")
        self.parts: list[Part] = []
        self._field, self._value = bytearray(), bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": lambda data, start, stop: self.parts[-1].data.extend(data[start:stop]),
                "on_header_field": lambda data, start, stop: self._field.extend(data[start:stop]),
                "on_header_value": lambda data, start, stop: self._value.extend(data[start:stop]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """The next piece. Raises Refusal 400 for what is no form."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Refusal(400, f"the form is broken: {error}") from None

    def finish(self) -> None:
        """There are no more pieces. Raises Refusal 400 when there should be."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise Refusal(400, f"the form is broken: {error}") from None
        if not self._ended:
            raise Refusal(400, "the form ends before its last boundary")

    def _begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise Refusal(400, f"the form has more than {MOST_PARTS} parts")
        self.parts.append(Part())

    def _end_header(self) -> None:
        self.parts[-1].headers[self._field.decode("latin-1").lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        part = self.parts[-1]
        options = parse_options_header(part.headers.get("content-disposition", b""))[1]
        if b"name" not in options:
            raise Refusal(400, "a part of the form has no name")
        part.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            part.file = options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]

    def _end(self) -> None:
        self._ended = True


def parse_form(content_type: bytes, body: bytes) -> list[Part]:
    """The parts of a whole form. Raises Refusal 400."""
    reader = FormReader(content_type)
    reader.feed(body)
    reader.finish()
    return reader.parts
