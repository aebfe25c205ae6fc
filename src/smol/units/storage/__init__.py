"""Durable collections of values, with large objects, search and backups."""
