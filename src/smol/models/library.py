"""The models of a user, beside those of the package: what was imported, and variants made of what there was.

A directory of files with known hashes and a catalog of the same form as the package's, as JSON. It is
read again when it changed, so that a running host knows a model as soon as it was added. Covers
no checking of models: that is done before they are added.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from smol.errors import AlreadyExists, DataLoss, FailedPrecondition, NotFound, nearest
from smol.models.catalog import Catalog, Labels, Model, Variant, check_catalog, load_catalog

__all__ = ["Library"]

_EMPTY = Catalog(model=(), labels={})


class Library:
    """The catalog of the package and that of the user as one. directory: made when first written to."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._path = self.directory / "catalog.json"
        self._seen: tuple[int, int, int] | None = None
        self._catalog = load_catalog()

    def catalog(self) -> Catalog:
        """All models; those of the user last, so that one of them answers only when it is named.

        Raises DataLoss when the user's catalog is damaged.
        """
        seen = self._state()
        if seen != self._seen:
            self._catalog = _merged(load_catalog(), self._own())
            self._seen = seen
        return self._catalog

    def add(self, model: Model, source: Path, labels: Mapping[str, Labels] | None = None) -> None:
        """Take a model with one variant, and its file from `source`; into a model of that name if there is one.

        Raises AlreadyExists when there is such a variant.
        """
        (variant,) = model.variant
        with self._writing() as own:
            merged = _merged(load_catalog(), own)
            if any(model.name == name and variant.name == each for name, each in _keys(merged)):
                raise AlreadyExists(
                    f"there is a model {model.name}:{variant.name} already; give another --name or --variant, "
                    f"or run: smol models remove {model.name}:{variant.name}"
                )
            of_that_name = [each for each in merged.model if each.name == model.name]
            if of_that_name and (of_that_name[0].task, of_that_name[0].labels) != (model.task, model.labels):
                raise AlreadyExists(f"model {model.name!r} is for something else; give another --name")
            for key, each in (labels or {}).items():
                if merged.labels.get(key, each) != each:
                    raise AlreadyExists(f"model {model.name!r} is there with other labels; give another --name")
            changed = _merged(own, Catalog(model=(model,), labels=dict(labels or {})))
            check_catalog(_merged(load_catalog(), changed))
            self._place(source, self.directory / variant.file)
            self._write(changed)

    def remove(self, name: str) -> list[str]:
        """Delete `MODEL` or `MODEL:VARIANT` with its files. Raises NotFound for what no user brought."""
        wanted, _, variant_name = name.partition(":")
        with self._writing() as own:
            gone = [
                (model.name, variant)
                for model in own.model
                for variant in model.variant
                if model.name == wanted and variant_name in ("", variant.name)
            ]
            if not gone:
                known = [f"{model}:{variant}" for model, variant in _keys(own)]
                what = (
                    "comes with Smol and stays"
                    if wanted in {m.name for m in load_catalog().model}
                    else "is unknown"
                )
                raise NotFound(
                    f"model {name!r} {what}{nearest(name, known)}; "
                    f"what can be removed: {', '.join(known) or 'nothing'}"
                )
            left = [
                msgspec.structs.replace(model, variant=kept)
                for model in own.model
                if (kept := tuple(v for v in model.variant if (model.name, v) not in gone))
            ]
            used = {model.labels for model in left}
            labels = {key: value for key, value in own.labels.items() if key in used}
            self._write(Catalog(model=tuple(left), labels=labels))
            for _, variant in gone:
                (self.directory / variant.file).unlink(missing_ok=True)
        return [f"{model}:{variant.name}" for model, variant in gone]

    def _own(self) -> Catalog:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Catalog)
        except FileNotFoundError:
            return _EMPTY
        except (OSError, msgspec.DecodeError) as error:
            raise DataLoss(
                f"the catalog of imported models {self._path} is damaged: {error}; delete it"
            ) from error

    def _state(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Catalog]:
        """The user's own catalog, with nobody else changing it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = open(self.directory / ".lock", "a")  # noqa: SIM115  # Closed below.
        except OSError as error:
            raise FailedPrecondition(f"{self.directory} can't be written: {error.strerror}") from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._own()

    def _write(self, catalog: Catalog) -> None:
        self._replace(self._path, msgspec.json.format(msgspec.json.encode(catalog)))

    def _place(self, source: Path, target: Path) -> None:
        self._replace(target, source.read_bytes())

    def _replace(self, target: Path, data: bytes) -> None:
        """All or nothing, also when the machine stops."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.directory, prefix=".", delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(file.name, target)
        except OSError as error:
            raise FailedPrecondition(f"{target} can't be written: {error.strerror}") from error


def _keys(catalog: Catalog) -> list[tuple[str, str]]:
    return [(model.name, variant.name) for model in catalog.model for variant in model.variant]


def _merged(first: Catalog, second: Catalog) -> Catalog:
    """Both; variants of a model that both know come after those of the first."""
    more: dict[str, tuple[Variant, ...]] = {model.name: model.variant for model in second.model}
    models = [
        msgspec.structs.replace(model, variant=(*model.variant, *more.pop(model.name, ())))
        for model in first.model
    ]
    models += [model for model in second.model if model.name in more]
    return Catalog(model=tuple(models), labels={**second.labels, **first.labels})
