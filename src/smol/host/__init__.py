"""The main process: registry, bus, supervisor. Runs no unit's heavy code, imports no heavy library."""
