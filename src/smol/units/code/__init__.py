"""The code unit: untrusted code in milliseconds, and what holds it."""
