"""FastAPI with PyTorch. The network is the package's own, with the weights that its ONNX file has."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Annotated, Any

import numpy as np
import torch
import uvicorn
from classifier import best, tensor
from fastapi import FastAPI, File
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def load(spec: dict[str, Any]) -> nn.Module:
    """The network, its normalisations folded into its convolutions as in the ONNX file."""
    found = importlib.util.spec_from_file_location("networks", spec["networks"])
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    network: nn.Module = module.SmolClassify().eval()
    for parent in list(network.modules()):
        if isinstance(parent, nn.Sequential) and len(parent) > 1 and isinstance(parent[1], nn.BatchNorm2d):
            parent[0], parent[1] = fuse_conv_bn_eval(parent[0], parent[1]), nn.Identity()
    weights = np.load(spec["weights"])
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    with torch.no_grad():
        for number, each in enumerate(convolutions):
            each.weight.copy_(torch.from_numpy(weights[f"weight{number}"]))
            each.bias.copy_(torch.from_numpy(weights[f"bias{number}"]))
        network.head.weight.copy_(torch.from_numpy(weights["head.weight"]))
        network.head.bias.copy_(torch.from_numpy(weights["head.bias"]))
        network.temperature.copy_(torch.from_numpy(weights["temperature"]))
    return network


spec = json.loads(sys.argv[1])
torch.set_num_threads(2)
network = load(spec)
app = FastAPI()


@app.post("/classify")
def answer(image: Annotated[bytes, File()]) -> dict[str, Any]:
    """The classes of the file `image` of a form; FastAPI calls this in a thread."""
    with torch.inference_mode():
        logits = network(torch.from_numpy(tensor(image, spec)))[0].numpy()
    return {"classes": best(logits)}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="error")
