"""The commented example of smol.toml, drawn from the settings themselves so that it cannot drift."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec

from smol import tables
from smol.cli.environment import VARIABLES
from smol.cli.settings import Setting, list_settings
from smol.sizes import format_bytes

__all__ = ["render"]

WIDTH = 100

HEADER = """\
# Settings of Smol, each with its default. Copy this file to smol.toml and uncomment what you change.
#
# Read from: --config, else $SMOL_CONFIG, else ./smol.toml, else smol.toml in $SMOL_HOME or the user's
# configuration directory. A variable overrides a key: SMOL_HOST_LOG_LEVEL is log_level in [host], and
# SMOL_UNITS__DETECT__THREADS is threads in [units.detect].
#
# Variables that are not settings:
"""


FREE_FORM = {
    ("units",): ("detect", "threads = 2"),
    ("gateway", "upstreams"): (
        "example",
        'url = "https://api.example.com/v1"',
        'models = ["example-*"]',
        'key_variable = "EXAMPLE_API_KEY"',
    ),
}
"""What an example of each table of tables holds: the name of one, and its entries."""


def render(kind: type[msgspec.Struct]) -> str:
    """The example file: valid as it stands, and with every `# key = value` line uncommented."""
    lines = [HEADER.rstrip()]
    for name, doc in VARIABLES.items():
        lines += _comment(f"{name}: {doc}", "#   ")
    section: tuple[str, ...] = ()
    for setting in list_settings(kind):
        if setting.free_form:
            name, *entries = FREE_FORM[setting.keys]
            lines += ["", *_doc(setting), f"# [{'.'.join((*setting.keys, name))}]"]
            lines += [f"# {entry}" for entry in entries]
            continue
        if setting.keys[:-1] != section:
            section = setting.keys[:-1]
            lines += ["", f"[{'.'.join(section)}]"]
        lines += _entry(setting)
    return "\n".join(lines) + "\n"


def _entry(setting: Setting) -> Iterator[str]:
    yield ""
    yield from _doc(setting)
    value = setting.default if setting.default is not None else _example(setting.annotation)
    shown = format_bytes(value) if tables.is_size(setting.annotation) else value
    yield f"# {setting.keys[-1]} = {_toml(shown)}"


def _doc(setting: Setting) -> list[str]:
    return _comment(setting.doc[:1].upper() + setting.doc[1:], "## ")


def _comment(text: str, prefix: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)


def _example(annotation: Any) -> Any:
    """The first of the examples in the annotation, for a setting whose default depends on the machine."""
    for extra in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        if isinstance(extra, msgspec.Meta) and extra.examples:
            return extra.examples[0]
    return ""


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Path):
        value = str(value)
    # JSON writes booleans, numbers and strings as TOML does, but for DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
