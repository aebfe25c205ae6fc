"""Exact and numeric mathematics: a calculator that is safe to give to strangers."""
