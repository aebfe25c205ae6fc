"""The networks of the vision units: chosen from the catalog, obtained, loaded once, and kept.

Composes `models`, `engines` and `vision`, which do not know each other. Covers no operation.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from smol.engines import Array, Engine
from smol.engines.engine import TensorSpec, layout_of
from smol.engines.onnx import OnnxEngine
from smol.engines.torch import NetworkSpec, TorchEngine, register_network
from smol.errors import Cancelled, FailedPrecondition, InvalidArgument, ResourceExhausted, Unavailable, nearest
from smol.heap import share_one_heap
from smol.models import Catalog, Library, Model, Store, Variant
from smol.models.catalog import read_labels
from smol.models.published import PUBLISHED
from smol.vision import DEFAULT_MAX_PIXELS, Preprocessor

if TYPE_CHECKING:
    from smol.sdk import Context
    from smol.types import Json

__all__ = ["ModelInfo", "Network", "Networks", "Settings", "Timing"]

MAX_LOADED = 2
"""Networks that one unit keeps; the least recently used goes, and is loaded again when called for."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went, in milliseconds."""

    decode_ms: float
    preprocess_ms: float
    inference_ms: float
    postprocess_ms: float


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a unit can use.

    name, variant: together `NAME:VARIANT`, as the argument `model` takes it.
    present: whether its file is here; default: whether it is taken when no model is named.
    """

    name: str
    variant: str
    bytes: int
    present: bool
    licence: str
    accuracy: str
    default: bool


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What smol.toml may say of a vision unit.

    model: `NAME` or `NAME:VARIANT` instead of the catalog's first that can be had.
    threads: of one inference; 0 for two where there are two cores.
    spin: let waiting threads burn their core; faster only where cores are idle.
    engine: what runs the model instead of the engine that the catalog names.
    max_megapixels: larger pictures are refused.
    """

    model: str | None = None
    threads: Annotated[int, Meta(ge=0, le=64)] = 0
    spin: bool = False
    engine: Literal["onnx", "torch"] | None = None
    max_megapixels: Annotated[float, Meta(gt=0, le=178)] = DEFAULT_MAX_PIXELS / 1e6

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)


class Network:
    """A loaded variant, with all that is needed to feed and read it."""

    __slots__ = ("_input", "_output", "engine", "labels", "model", "preprocessor", "variant")

    def __init__(self, model: Model, variant: Variant, engine: Engine, labels: tuple[str, ...]) -> None:
        self.model = model
        self.variant = variant
        self.engine = engine
        self.labels = labels
        self.preprocessor = Preprocessor(**msgspec.structs.asdict(variant.input))
        self._input = engine.inputs[0].name
        self._output = engine.outputs[0].name

    def run(self, tensor: Array) -> Array:
        """The first output for a preprocessed picture."""
        return self.engine.run({self._input: tensor})[self._output]


class Networks:
    """The networks of one task in this worker. Safe to use from several threads."""

    def __init__(
        self, task: Literal["classify", "detect"], settings: Mapping[str, Any], store: Store, library: Library
    ) -> None:
        self._task = task
        self.settings = parse_settings(task, settings)
        self._store = store
        self._library = library
        if self.settings.model is not None:
            self._catalog.find(task, self.settings.model)  # Refuse an unknown one at start, not at the first call.
        self._names: dict[str | None, str] = {}
        self._named_in: Catalog | None = None
        self._loaded: dict[str, Network] = {}
        self._guard = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    @classmethod
    def from_context(cls, task: Literal["classify", "detect"], context: Context) -> Networks:
        """With the unit's settings and the models in the shared cache directory."""
        share_one_heap()  # Before the threads start that calls will run in.
        library = Library(Path(context.data_dir).parents[1] / "models")  # Beside the units' own directories.
        store = Store.from_environment(os.path.join(context.cache_dir, "models"), library.directory)
        return cls(task, context.settings, store, library)

    @property
    def _catalog(self) -> Catalog:
        return self._library.catalog()

    def get(self, name: str | None, context: Context) -> Network:
        """The network of that name, or the default; loaded, and fetched if need be, at the first call.

        Raises NotFound for an unknown name, Unavailable when its file can't be had, DataLoss when it is damaged.
        """
        catalog = self._catalog
        if catalog is not self._named_in:  # Something was imported or removed.
            self._named_in, self._names = catalog, {}
        key = self._names.get(name)
        if key is not None:
            with self._guard:
                network = self._loaded.pop(key, None)
                if network is not None:
                    self._loaded[key] = network  # To the end: most recently used.
                    return network
        network = self._resolve(name, context)
        self._names[name] = _key(network.model, network.variant)
        return network

    def listing(self) -> list[ModelInfo]:
        """What the catalog has for the task, most preferred first."""
        default = self._default_name()
        return [
            ModelInfo(
                name=model.name,
                variant=variant.name,
                bytes=variant.bytes,
                present=self._store.is_present(variant),
                licence=model.licence,
                accuracy=variant.accuracy,
                default=f"{model.name}:{variant.name}" == default,
            )
            for model, variant in self._catalog.variants(self._task)
        ]

    def close(self) -> None:
        """Let all networks go; calls that still run keep theirs until they are done."""
        with self._guard:
            self._loaded.clear()

    def _default_name(self) -> str | None:
        if self.settings.model is not None:
            model, variant = self._catalog.find(self._task, self.settings.model)
            return f"{model.name}:{variant.name}"
        for model, variant in self._catalog.variants(self._task):
            if self._obtainable(variant):
                return f"{model.name}:{variant.name}"
        return None

    def _obtainable(self, variant: Variant) -> bool:
        return self._store.is_present(variant) or bool(self._store.sources(variant))

    def _resolve(self, name: str | None, context: Context) -> Network:
        name = name if name is not None else self.settings.model
        if name in PUBLISHED and all(model.name != name for model in self._catalog.model):
            raise FailedPrecondition(
                f"model {name!r} is converted before its first use; run: smol models pull {name}"
            )
        if name is not None:
            return self._load(*self._catalog.find(self._task, name), context, ladder=":" not in name)
        failures = []
        no_room: ResourceExhausted | None = None
        for model, variant in self._catalog.variants(self._task):
            if not self._obtainable(variant):
                continue
            try:
                return self._load(model, variant, context, ladder=True)
            except Unavailable as error:
                failures.append(error.message)
            except ResourceExhausted as error:  # A smaller one may fit.
                if "repeat" in error.details:
                    raise
                no_room = no_room or error
        if no_room is not None:
            raise no_room
        tried = "; ".join(failures) or "none is here, and none is on a public server"
        raise Unavailable(
            f"no model to {self._task} with can be had: {tried}. Set SMOL_MODEL_MIRROR to a directory "
            f"or URL that has them, or go online"
        )

    def _load(self, model: Model, variant: Variant, context: Context, *, ladder: bool) -> Network:
        key = _key(model, variant)
        with self._guard:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:
            network = self._loaded.get(key)  # Another thread may have loaded it meanwhile.
            if network is None:
                with context.loading(model.name, self._forms(model, variant, ladder)) as chosen:
                    variant = next(each for each in model.variant if each.name == chosen)
                    network = self._open(model, variant, context)
                self._keep(key, network, context)
        return network

    def _keep(self, key: str, network: Network, context: Context) -> None:
        gone = []
        with self._guard:
            self._loaded[key] = network
            while len(self._loaded) > MAX_LOADED:
                gone.append(self._loaded.pop(next(iter(self._loaded))))
            left = {kept.model.name for kept in self._loaded.values()}
        for name in {network.model.name for network in gone} - left:
            context.unloaded(name)

    def _forms(self, model: Model, variant: Variant, ladder: bool) -> list[dict[str, Json]]:
        """What the governor may choose from: the variant wanted, and those below it that are here."""
        below = model.variant[model.variant.index(variant) + 1 :] if ladder else ()
        forms = [variant, *(each for each in below if self._store.is_present(each))]
        threads = self.settings.threads or 1
        return [
            {"name": form.name, "bytes": form.reserved_bytes, "engine": self._engine_of(form), "threads": threads}
            for form in forms
        ]

    def _engine_of(self, variant: Variant) -> str:
        return self.settings.engine or variant.engine

    def _open(self, model: Model, variant: Variant, context: Context) -> Network:
        def progress(done: int, total: int) -> None:
            context.progress(done / total, f"fetching {variant.file}")

        def cancelled() -> bool:
            return context.cancelled

        path = self._store.obtain(variant, progress=progress, cancelled=cancelled)
        labels = self._catalog.labels[model.labels]
        names = labels.names
        if labels.asset is not None:
            names = read_labels(self._store.obtain(labels.asset, cancelled=cancelled))
        check_cancelled(context)
        threads = self.settings.threads or None
        engine: Engine
        if self._engine_of(variant) == "torch":
            if variant.network:
                register_embedded()
            engine = TorchEngine.load(path, network=variant.network or None, threads=threads)
        else:
            engine = OnnxEngine.load(path, threads=threads, spin=self.settings.spin)
        context.log.info("loaded %s:%s", model.name, variant.name)
        return Network(model, variant, engine, names)


def _key(model: Model, variant: Variant) -> str:
    """Tells a variant from another of the same name that took its place."""
    return f"{model.name}:{variant.name}:{variant.sha256}"


def register_embedded() -> None:
    """Make the embedded networks known to the torch engine. Raises FailedPrecondition without torch."""
    try:
        from smol.models.networks import CLASSIFY_CLASSES, DETECT_CLASSES, SmolClassify, SmolDetect
    except ImportError as error:
        raise FailedPrecondition("the torch engine needs the package 'torch': pip install smol[torch]") from error

    picture, logits = (1, 3, 32, 32), (1, len(CLASSIFY_CLASSES))
    _register("smol-classify", SmolClassify, picture, "logits", logits)
    for side in (256, 320):
        cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
        boxes = (1, cells, 4 + len(DETECT_CLASSES))
        _register(f"smol-detect-{side}", SmolDetect, (1, 3, side, side), "boxes", boxes)


def _register(
    name: str, build: Callable[[], Any], taken: tuple[int, ...], output: str, given: tuple[int, ...]
) -> None:
    inputs = (TensorSpec("image", taken, "float32", "NCHW"),)
    register_network(name, NetworkSpec(build, inputs, (TensorSpec(output, given, "float32", layout_of(given)),)))


def check_cancelled(context: Context) -> None:
    """Raise Cancelled when nobody waits for the answer any more."""
    if context.cancelled:
        raise Cancelled("the caller went away")


def parse_settings(unit: str, settings: Mapping[str, Any]) -> Settings:
    """Raises InvalidArgument naming the setting that is wrong, or the nearest known name."""
    known = Settings.__struct_fields__
    for name in settings:
        if name not in known:
            hint = f"{nearest(name, known)}; known: {', '.join(known)}"
            raise InvalidArgument(f"units.{unit}.{name} is no setting{hint}")
    try:
        return msgspec.convert(dict(settings), Settings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"the settings of unit {unit!r} are wrong: {error}") from error
