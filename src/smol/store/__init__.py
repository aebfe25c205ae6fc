"""Durable state in one SQLite file: one writer with group commit, a read pool, numbered migrations.

Covers opening (lock, integrity check, setting a corrupt file aside), transactions from an asyncio
event loop, backup and restore. Knows nothing of what is stored: a user brings migrations and functions
of a connection. The storage unit, the host's ledger and the executor's journal all stand on it.
"""

from __future__ import annotations

from smol.store.migrations import Migration
from smol.store.store import Options, Statistics, Store

__all__ = ["Migration", "Options", "Statistics", "Store"]
