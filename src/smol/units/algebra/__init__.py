"""Symbolic mathematics: expressions with variables, in the calculator's own syntax."""
