"""Python: in the sandbox's own interpreter, which is warm when the code comes."""

from __future__ import annotations

from smol.units.code.languages.language import Language

__all__ = ["PYTHON"]

# Runs in a sandbox of its own: parsing is work on hostile input, too.
_CHECKER = """
import ast, builtins, json, symtable, sys

source = sys.stdin.read()
problems = []
try:
    tree = ast.parse(source)
    table = symtable.symtable(source, "<code>", "exec")
except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    line, column = getattr(error, "lineno", None), getattr(error, "offset", None)
    message = getattr(error, "msg", None) or str(error)
    problems.append({"line": line or 1, "column": column or 1, "message": message})
else:
    known = set(dir(builtins)) | {"__file__", "__name__", "__doc__", "__builtins__"}
    known |= {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    stars = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))
    wanted, tables = set(), [table]
    while tables:
        here = tables.pop()
        tables += here.get_children()
        for symbol in here.get_symbols():
            if here is not table and symbol.is_declared_global() and symbol.is_assigned():
                known.add(symbol.get_name())
            if symbol.is_referenced() and (symbol.is_global() or here is table):
                wanted.add(symbol.get_name())
    missing = set() if stars else wanted - known
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in missing and node.id not in seen:
            seen.add(node.id)
            problems.append({"line": node.lineno, "column": node.col_offset + 1,
                             "message": f"undefined name {node.id!r}"})
sorted(problems, key=lambda problem: (problem["line"], problem["column"]))
"""

PYTHON = Language(
    name="python",
    description="Python with its standard library, numpy and Pillow",
    suffix="py",
    checker=_CHECKER,
)
