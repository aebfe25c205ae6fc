"""Starlette and ONNX Runtime in one script, which decodes and computes in a thread."""

from __future__ import annotations

import sys

import uvicorn
from classifier import load
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

classify = load(sys.argv[1])


async def answer(request: Request) -> JSONResponse:
    """The classes of the file `image` of a form."""
    async with request.form() as form:
        image = form["image"]
        assert isinstance(image, UploadFile)
        data = await image.read()
    return JSONResponse({"classes": await run_in_threadpool(classify, data)})


app = Starlette(routes=[Route("/classify", answer, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="error")
