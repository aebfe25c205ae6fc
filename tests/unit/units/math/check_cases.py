"""Asks bc, SymPy, numpy, mpmath and mathjs for the answers in the tables again. For developers; no test runs it.

    python tests/unit/units/math/check_cases.py [FOLDER_WITH_MATHJS]

The tables are the cases.json of math, algebra and linalg. Needs `bc`, `node` with mathjs installed in the given
folder, and the Python packages sympy, mpmath and numpy. Each case says whom it was asked (`oracle`) and in which
words (`asked`). Algebra, which is SymPy's, is never asked of SymPy, nor linalg, which is numpy's, of numpy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

UNITS = Path(__file__).parents[1]
TABLES = [UNITS / unit / "cases.json" for unit in ("math", "algebra", "linalg")]


def ask_bc(questions: list[str]) -> list[str]:
    """bc at 60 decimals; `s c a l e` is set first, `e l s` are its library."""
    script = "scale=60\n" + "\n".join(questions) + "\n"
    run = subprocess.run(["bc", "-lq"], input=script, capture_output=True, text=True, check=True,
                         env={"BC_LINE_LENGTH": "0", "PATH": "/usr/bin:/bin"})  # fmt: skip
    return run.stdout.split()


def ask_sympy(questions: list[str]) -> list[str]:
    """SymPy, to 60 digits. The questions are this file's own, never a user's."""
    import sympy

    numeric: Any = sympy.N

    return [str(numeric(eval(question, dict(vars(sympy))), 60)) for question in questions]


def ask_numpy(questions: list[str]) -> list[str]:
    """numpy's doubles."""
    import numpy as np

    return [repr(float(eval(question, {"np": np}))) for question in questions]


def ask_mpmath(questions: list[str]) -> list[str]:
    """mpmath, to 40 digits: quadrature, summation and root finding, no symbols."""
    import mpmath

    with mpmath.workdps(40):
        return [mpmath.nstr(eval(question, dict(vars(mpmath))), 30) for question in questions]


def ask_mathjs(questions: list[str], folder: str) -> list[str]:
    """mathjs's doubles."""
    script = (
        "const m=require('mathjs');const q=JSON.parse(require('fs').readFileSync(0));"
        'console.log(JSON.stringify(q.map(x=>{let v;try{v=m.evaluate(x)}catch(e){return "NaN "+e};'
        "return typeof v==='number'?String(v):m.format(v,{precision:17})})))"
    )
    run = subprocess.run(["node", "-e", script], input=json.dumps(questions), capture_output=True, text=True,
                         check=True, cwd=folder)  # fmt: skip
    return list(json.loads(run.stdout))


def answers(cases: list[dict[str, Any]], folder: str) -> list[str]:
    """A fresh answer for each case, in order."""
    found: dict[int, str] = {}
    for oracle in ("bc", "sympy", "numpy", "mpmath", "mathjs"):
        chosen = [index for index, case in enumerate(cases) if case["oracle"] == oracle]
        questions = [cases[index]["asked"] for index in chosen]
        asking: dict[str, Callable[[list[str]], list[str]]] = {
            "bc": ask_bc, "sympy": ask_sympy, "numpy": ask_numpy, "mpmath": ask_mpmath,
            "mathjs": lambda q: ask_mathjs(q, folder),
        }  # fmt: skip
        replies = asking[oracle](questions)
        found |= dict(zip(chosen, replies, strict=True))
    return [found[index] for index in range(len(cases))]


def main() -> int:
    cases = [case for table in TABLES for case in json.loads(table.read_text())]
    wrong = 0
    for case, fresh in zip(cases, answers(cases, sys.argv[1] if len(sys.argv) > 1 else "."), strict=True):
        kept, new = Decimal(case["answer"].split()[0]), Decimal(fresh.split()[0])
        if abs(kept - new) > Decimal("1e-13") * max(abs(kept), Decimal("1e-30")):
            wrong += 1
            print(f"{case['asked']}: kept {kept}, {case['oracle']} says {new}")
    print(f"{len(cases)} cases, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
