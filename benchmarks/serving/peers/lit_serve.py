"""LitServe with ONNX Runtime, in one worker. It reads annotations itself, so they are no texts here."""

import sys
from typing import Any

import litserve
from classifier import load
from fastapi import Request


class Classifier(litserve.LitAPI):
    """Asked for the classes of the file `image` of a form."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self._classify = load(sys.argv[1])

    def decode_request(self, request: Request) -> bytes:
        """The bytes of the picture."""
        data: bytes = request["image"].file.read()
        return data

    def predict(self, data: bytes) -> list[dict[str, float]]:
        """The classes."""
        return self._classify(data)

    def encode_response(self, output: list[dict[str, float]]) -> dict[str, Any]:
        """As JSON."""
        return {"classes": output}


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(api_path="/classify"), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, log_level="error", generate_client_file=False
    )
