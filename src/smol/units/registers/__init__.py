"""Typed temporary variables, in memory."""
