"""The languages, a file each: to add one, write a file like those and name it here."""

from __future__ import annotations

from smol.units.code.languages.javascript import JAVASCRIPT
from smol.units.code.languages.language import Language
from smol.units.code.languages.node import NODE
from smol.units.code.languages.python import PYTHON
from smol.units.code.languages.shell import SHELL

__all__ = ["LANGUAGES", "Language"]

LANGUAGES: dict[str, Language] = {language.name: language for language in (PYTHON, SHELL, JAVASCRIPT, NODE)}
