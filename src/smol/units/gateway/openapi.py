"""OpenAPI 3.1 of every operation, from the schemas of the units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smol import __version__
from smol.client.arguments import takes_attachment
from smol.protocol.messages import OperationDescription, UnitDescription
from smol.types import Json
from smol.units.gateway.arguments import as_text_schema, holds_attachment
from smol.units.gateway.problems import HTTP_STATUS

__all__ = ["document_of"]

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "retryable"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong, with which value, and what to do."},
        "code": {"type": "string", "enum": sorted({*HTTP_STATUS} - {"UNKNOWN"})},
        "retryable": {"type": "boolean"},
        "request_id": {"type": "string"},
        "retry_after_ms": {"type": "integer"},
    },
}
_PROBLEM_RESPONSE = {"$ref": "#/components/responses/Problem"}
_ERRORS = (400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 429, 500, 501, 503, 504)


def document_of(units: Iterable[UnitDescription], url: str = "/") -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM}
    tags = []
    for unit in units:
        tags.append({"name": unit.name, "description": unit.summary})
        for operation in unit.operations:
            paths[f"/v1/units/{unit.name}/{operation.name}"] = {"post": _operation(unit.name, operation, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Smol", "version": __version__, "summary": "Every operation of every unit."},
        "servers": [{"url": url}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Problem": {"description": "What went wrong.", "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }  # fmt: skip


def _operation(unit: str, operation: OperationDescription, schemas: dict[str, Any]) -> dict[str, Any]:
    taken = _adapted(operation.input, f"{unit}_{operation.name}_in", schemas)
    given = _adapted(operation.output, f"{unit}_{operation.name}_out", schemas)
    content: dict[str, Any] = {"application/json": {"schema": taken}}
    properties: Mapping[str, Json] = operation.input.get("properties", {})
    if any(holds_attachment(schema) for schema in properties.values()):
        content["multipart/form-data"] = {"schema": _form(taken, properties)}
    required = bool(operation.input.get("required"))
    result: dict[str, Any] = {"description": "The result."}
    if operation.streaming:
        result["description"] = "The items, as server-sent events or, if asked for by Accept, as lines of JSON."
        result["content"] = {
            "text/event-stream": {},
            "application/x-ndjson": {},
        }
    elif operation.output.get("x-smol-attachment"):
        result["content"] = {"*/*": {}}
    else:
        result["content"] = {"application/json": {"schema": given}}
    return {
        "operationId": f"{unit}.{operation.name}",
        "tags": [unit],
        "summary": operation.summary,
        "description": operation.description,
        "requestBody": {"required": required, "content": content},
        "responses": {"200": result} | {str(status): _PROBLEM_RESPONSE for status in _ERRORS},
        "x-smol": {
            "streaming": operation.streaming,
            "idempotent": operation.idempotent,
            "read_only": operation.read_only,
            "destructive": operation.destructive,
        },
    }


def _adapted(schema: Json, prefix: str, schemas: dict[str, Any]) -> Json:
    """`schema` with its definitions among the document's, and attachments as this face carries them."""
    schema = as_text_schema(schema)
    if not isinstance(schema, dict):
        return schema
    for name, definition in schema.get("$defs", {}).items():
        schemas[f"{prefix}_{name}"] = {}  # First its name, for definitions that refer to each other.
        schemas[f"{prefix}_{name}"] = _rewritten(definition, prefix)
    return _rewritten({key: value for key, value in schema.items() if key != "$defs"}, prefix)


def _rewritten(value: Json, prefix: str) -> Json:
    if isinstance(value, list):
        return [_rewritten(item, prefix) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        return {**value, "$ref": f"#/components/schemas/{prefix}_{reference.removeprefix('#/$defs/')}"}
    return {key: _rewritten(item, prefix) for key, item in value.items()}


def _form(taken: Json, properties: Mapping[str, Json]) -> Json:
    """The same arguments as fields of a form, with files as bytes."""
    fields = {
        name: {"type": "string", "contentMediaType": "application/octet-stream"}
        if takes_attachment(schema)
        else taken["properties"][name]
        for name, schema in properties.items()
    }
    form: dict[str, Json] = {"type": "object", "properties": fields}
    if "required" in taken:
        form["required"] = taken["required"]
    return form
