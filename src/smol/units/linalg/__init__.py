"""Numeric linear algebra on numpy, and on PyTorch where that gains."""
