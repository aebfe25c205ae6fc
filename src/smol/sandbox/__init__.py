"""Untrusted code under seals: namespaces, a private root, cgroups, rlimits, Landlock, seccomp.

Importing this package loads nothing: the nursery imports parts of it without site-packages.
"""
