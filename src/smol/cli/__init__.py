"""The command line: composes everything, owns smol.toml."""
