"""Models: what there is (`catalog.toml`), and getting it here, verified (`Store`). Runs nothing."""

from smol.models.catalog import Asset, Catalog, Input, Labels, Model, Output, Variant, load_catalog
from smol.models.library import Library
from smol.models.store import MIRROR_VARIABLE, Store, Stored

__all__ = [
    "MIRROR_VARIABLE",
    "Asset",
    "Catalog",
    "Input",
    "Labels",
    "Library",
    "Model",
    "Output",
    "Store",
    "Stored",
    "Variant",
    "load_catalog",
]
