"""Runs JavaScript by QuickJS. Its text is sent to a sandbox, where QuickJS is found; here nobody imports it.

`PRELUDE` is put before it, and a call of `run` or `check` after it.
"""

# mypy: ignore-errors

import json
import resource
import sys
import time

import _quickjs

_PYTHON_STACK_BYTES = 1 << 20
_BEFORE = "throw 0;"
"""What is parsed whole is not run beyond this."""


class _Shown:
    """A value that JSON can't say, as JavaScript shows it."""

    def __init__(self, text):
        self._text = text

    def __repr__(self):
        return self._text


_problem = ""


def _hook(function):
    """Null in place of an exception, which QuickJS could not take; `problem` tells of it afterwards."""

    def called(arguments):
        global _problem
        try:
            return json.dumps(function(*json.loads(arguments)))
        except Exception as error:
            _problem = f"{type(error).__name__}: {error}"
            return "null"

    return called


def _write(stream, text):
    (sys.stdout if stream == 1 else sys.stderr).write(text)
    return True


def _read_file(path):
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return file.read()


def _write_file(path, text):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    return True


_HOOKS = {
    "write": _write,
    "readline": lambda: next(sys.stdin).rstrip("\n"),
    "readFile": _read_file,
    "writeFile": _write_file,
    "problem": lambda: _problem,
    "now": lambda: time.monotonic() * 1000,
}


def _fail(text):
    sys.stderr.write(f"Uncaught {text}\n")
    if text.startswith("InternalError: out of memory"):
        raise MemoryError
    raise SystemExit(1)


def _told(text):
    """What a hook told; ends the program when that is an error."""
    found = json.loads(text)
    if found and "error" in found:
        _fail(found["error"])
    return found


def _stack_bytes():
    """What JavaScript may use: the stack of a main thread, as systems have it, less what Python needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return max(1 << 20, min(soft if soft > 0 else 8 << 20, 8 << 20) - _PYTHON_STACK_BYTES)


def run(source):
    """Run a program to the end of its timers and promises. Returns the value of its last expression."""
    context = _quickjs.Context()
    context.set_max_stack_size(_stack_bytes())
    for name, function in _HOOKS.items():
        context.add_callable(f"__{name}", _hook(function))
    context.eval(PRELUDE)  # noqa: F821
    hooks = {name: context.eval(f"__hooks.{name}") for name in ("start", "pause", "idle", "tick", "settled")}
    context.eval("delete globalThis.__hooks")
    try:
        result = _told(hooks["start"](json.dumps(source)))
        while True:
            while context.execute_pending_job():
                pass
            if hooks["idle"]():
                break
            time.sleep(hooks["pause"]() / 1000)
            _told(hooks["tick"]())
        if result.get("waits"):
            result = _told(hooks["settled"]())
            if result is None:
                _fail("Error: the promise that is the last expression was never settled")
    except _quickjs.JSException as error:  # of our own hooks: for want of memory or of stack
        _fail(str(error) if str(error) != "null" else "InternalError: out of memory")
    if "json" in result:
        return json.loads(result["json"])
    return _Shown(result["text"]) if "text" in result else None


def check(source):
    """The problems of a program that is not run."""
    try:
        _quickjs.Context().eval(_BEFORE + source)
    except _quickjs.JSException as error:
        message, _, where = str(error).partition("\n")
        if message.startswith("SyntaxError: "):
            line, column = ([*where.strip().split(":")[-2:], "1", "1"])[:2] if ":" in where else ("1", "1")
            shift = len(_BEFORE) if line == "1" else 0
            found = {"line": int(line), "column": max(1, int(column) - shift), "message": message[13:]}
            return [found]
    return []
