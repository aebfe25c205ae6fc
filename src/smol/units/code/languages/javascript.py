"""JavaScript: QuickJS in the sandbox's own interpreter; where that is not installed, Node."""

from __future__ import annotations

import importlib.util
from importlib.resources import files

import msgspec

from smol.units.code.languages.language import Language
from smol.units.code.languages.node import NODE

__all__ = ["JAVASCRIPT"]


def _javascript() -> Language:
    if importlib.util.find_spec("_quickjs") is None:  # There is no wheel for this machine.
        return msgspec.structs.replace(NODE, name="javascript", description="Node, for want of QuickJS")
    here = files(__package__)
    prelude = here.joinpath("javascript_prelude.js").read_text("utf-8")
    runner = here.joinpath("javascript_runner.py").read_text("utf-8")
    harness = f"PRELUDE = {prelude!r}\n{runner}\n"
    return Language(
        name="javascript",
        description="QuickJS: the language itself, without Node's modules",
        suffix="js",
        harness=harness,
        checker=f"{harness}check(sys.stdin.read())",
    )


JAVASCRIPT = _javascript()
