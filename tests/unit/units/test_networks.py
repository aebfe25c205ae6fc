from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from smol.engines.torch import TorchEngine
from smol.errors import Cancelled, DataLoss, InvalidArgument, NotFound, Unavailable
from smol.sdk import Context
from smol.units.networks import MAX_LOADED, Network, Networks, Settings, register_embedded

MakeContext = Callable[..., Context]


def detectors(make_context: MakeContext, **settings: Any) -> tuple[Networks, Context]:
    context = make_context("detect", **settings)
    return Networks.from_context("detect", context), context


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"modell": "x"}, r"units\.detect\.modell is no setting \(did you mean 'model'"),
        ({"threads": -1}, "threads"),
        ({"threads": "two"}, "threads"),
        ({"engine": "abacus"}, "abacus"),
        ({"max_megapixels": 0}, "max_megapixels"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    make_context: MakeContext, settings: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        detectors(make_context, **settings)


def test_an_unknown_model_in_the_settings_is_refused_at_start(make_context: MakeContext) -> None:
    with pytest.raises(NotFound, match="did you mean 'yolox-nano'"):
        detectors(make_context, model="yolox-nanno")


@pytest.mark.usefixtures("no_mirror")
def test_without_any_source_a_named_model_is_refused_saying_what_to_do(make_context: MakeContext) -> None:
    context = make_context("classify")
    networks = Networks.from_context("classify", context)
    with pytest.raises(Unavailable, match=r"mobilenet_v1_0\.25_128_int8\.onnx is on no public server"):
        networks.get("mobilenet-v1:0.25-128-int8", context)


@pytest.mark.usefixtures("no_mirror")
@pytest.mark.parametrize("task", ["classify", "detect"])
def test_without_any_source_the_network_of_the_package_answers(
    make_context: MakeContext, tmp_path: Path, task: Literal["classify", "detect"]
) -> None:
    context = make_context(task, threads=1)
    networks = Networks.from_context(task, context)
    network = networks.get(f"smol-{task}", context)
    side = network.variant.input.width
    output = network.run(np.zeros((1, 3, side, side), np.float32))
    assert output.shape[-1] == len(network.labels) + (4 if task == "detect" else 0)
    assert not (tmp_path / "cache" / "models").exists()


@pytest.mark.usefixtures("mirror")
def test_a_named_model_is_fetched_and_loaded_once(make_context: MakeContext, link: Any) -> None:
    networks, context = detectors(make_context)
    network = networks.get("nanodet-plus-m", context)
    assert (network.model.name, network.variant.name) == ("nanodet-plus-m", "416")
    assert networks.get("nanodet-plus-m:416", context) is network
    assert link.told[-1] == (1.0, "fetching nanodet_plus_m_416.onnx")


@pytest.mark.usefixtures("mirror")
def test_the_setting_names_the_default(make_context: MakeContext) -> None:
    networks, context = detectors(make_context, model="fastestdet", threads=1)
    assert networks.get(None, context).model.name == "fastestdet"
    assert [(info.name, info.present) for info in networks.listing() if info.default] == [("fastestdet", True)]


@pytest.mark.usefixtures("mirror")
def test_threads_that_want_the_same_network_share_one(make_context: MakeContext) -> None:
    networks, context = detectors(make_context, threads=1)
    found: list[Network] = []
    threads = [
        threading.Thread(target=lambda: found.append(networks.get("fastestdet", context))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(network) for network in found}) == 1


@pytest.mark.usefixtures("mirror")
def test_the_least_recently_used_network_goes(make_context: MakeContext) -> None:
    context = make_context("classify", threads=1)
    networks = Networks.from_context("classify", context)
    names = ["mobilenet-v1:0.25-128", "mobilenet-v1:0.25-128-int8", "mobilenet-v1:0.5-160-int8"]
    assert len(names) == MAX_LOADED + 1
    first, second = (networks.get(name, context) for name in names[:2])
    assert networks.get(names[0], context) is first
    networks.get(names[2], context)
    assert networks.get(names[0], context) is first
    assert networks.get(names[1], context) is not second


@pytest.mark.usefixtures("mirror")
def test_a_damaged_file_never_becomes_a_network(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    networks, context = detectors(make_context)
    networks.get("fastestdet", context)
    networks.close()
    monkeypatch.delenv("SMOL_MODEL_MIRROR")
    networks, context = detectors(make_context)
    stored = tmp_path / "cache" / "models" / "fastestdet_352.onnx"
    swapped = stored.read_bytes()[:-1] + b"?"
    stored.write_bytes(swapped)
    with pytest.raises(DataLoss, match=f"found {hashlib.sha256(swapped).hexdigest()}"):
        networks.get("fastestdet", context)


@pytest.mark.usefixtures("mirror")
def test_loading_stops_when_the_caller_goes_away(make_context: MakeContext) -> None:
    networks, context = detectors(make_context)
    context.cancelled = True
    with pytest.raises(Cancelled):
        networks.get("fastestdet", context)


@pytest.mark.usefixtures("mirror")
def test_the_listing_says_what_is_present_and_what_is_the_default(make_context: MakeContext) -> None:
    networks, context = detectors(make_context)
    assert {info.name for info in networks.listing() if info.present} == {"smol-detect"}
    networks.get("fastestdet:352", context)
    assert {info.name for info in networks.listing() if info.present} == {"smol-detect", "fastestdet"}
    assert [info.name for info in networks.listing() if info.default] == ["nanodet-plus-m"]
    assert {info.licence for info in networks.listing()} == {"Apache-2.0", "BSD-3-Clause"}


def test_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "models.md").read_text(encoding="utf-8")
    assert [name for name in Settings.__struct_fields__ if f"| `{name}` |" not in page] == []


def test_the_torch_engine_runs_the_embedded_networks_by_name() -> None:
    torch = pytest.importorskip("torch", reason="torch is an extra")
    safetensors = pytest.importorskip("safetensors.torch")
    from smol.models.networks import SmolDetect

    register_embedded()
    register_embedded()
    module = SmolDetect().eval()
    engine = TorchEngine.load(safetensors.save(module.state_dict()), network="smol-detect-256")
    picture = np.random.default_rng(0).standard_normal((1, 3, 256, 256)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(picture)).numpy()
    found = engine.run({"image": picture})["boxes"]
    assert found.shape == engine.outputs[0].shape
    assert np.abs(found - expected).max() < 1e-3
