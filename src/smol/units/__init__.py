"""The units that come with Smol: one package each, with a `unit.toml` and a `unit.py`."""
