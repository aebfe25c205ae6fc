"""Runs main(s, *arguments) of a script against the running Smol.

The arguments come as JSON on standard input; the result, or what went wrong, goes as JSON to descriptor 3.
"""

import asyncio
import importlib.util
import inspect
import os
import sys
import traceback

import msgspec

import smol
from smol.errors import SmolError


def run(path, arguments):
    spec = importlib.util.spec_from_file_location("__smol_script__", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "main", None)):
        raise TypeError(f"{os.path.basename(path)} has no function main(s, ...)")
    if inspect.iscoroutinefunction(module.main):
        return asyncio.run(run_async(module.main, arguments))
    with smol.connect() as s:
        return module.main(s, *arguments)


async def run_async(main, arguments):
    async with smol.connect() as s:
        return await main(s, *arguments)


def answer():
    path = sys.argv[1]
    sys.path.insert(0, os.path.dirname(path))
    try:
        return msgspec.json.encode({"value": run(path, msgspec.json.decode(sys.stdin.buffer.read()))})
    except SmolError as error:
        code, message, details = error.code, error.message, dict(error.details)
    except BaseException as error:
        traceback.print_exc()
        code, message, details = "INTERNAL", f"{type(error).__name__}: {error}", {}
    return msgspec.json.encode({"error": {"code": code, "message": message, "details": details}})


with open(3, "wb") as out:
    out.write(answer())
