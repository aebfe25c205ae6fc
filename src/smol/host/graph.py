"""What needs what among the units, drawn as text or in Graphviz's DOT language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smol.host.manifest import Manifest

__all__ = ["render_dot", "render_text"]


def render_text(manifests: Sequence[Manifest]) -> str:
    """A tree for each unit that no other one needs; below each unit those it needs."""
    known = {manifest.name: manifest for manifest in manifests}
    needed = {need for manifest in manifests for need in manifest.needs}
    lines: list[str] = []
    for name in sorted(known):
        if name not in needed:
            lines += _tree(name, known)
    return "\n".join(lines)


def _tree(root: str, known: Mapping[str, Manifest]) -> list[str]:
    """A unit and below it, indented, what it needs. A loop can't be: the supervisor refuses it."""
    manifest = known.get(root)
    if manifest is None:
        return [f"{root} (not there)"]
    shared = f" [{manifest.worker}]" if manifest.worker != root else ""
    spare = f" (else {manifest.fallback})" if manifest.fallback else ""
    lines = [f"{root}{shared}{spare}"]
    for index, need in enumerate(manifest.needs):
        last = index == len(manifest.needs) - 1
        first, *rest = _tree(need, known)
        lines.append(f"{'└─' if last else '├─'} {first}")
        lines += [f"{'  ' if last else '│ '} {line}" for line in rest]
    return lines


def render_dot(manifests: Sequence[Manifest]) -> str:
    """Units in the box of their worker; solid arrows to what they need, dotted ones to their fallback."""
    workers: dict[str, list[str]] = {}
    for manifest in manifests:
        workers.setdefault(manifest.worker, []).append(manifest.name)
    lines = ["digraph smol {", "  rankdir=LR;", "  node [shape=box];"]
    for worker, units in sorted(workers.items()):
        if units == [worker]:
            lines.append(f'  "{worker}";')
            continue
        inside = " ".join(f'"{unit}";' for unit in sorted(units))
        lines.append(f'  subgraph "cluster_{worker}" {{ label="{worker}"; {inside} }}')
    known = {manifest.name for manifest in manifests}
    for manifest in sorted(manifests, key=lambda manifest: manifest.name):
        for need in manifest.needs:
            lost = "" if need in known else " [color=red]"
            lines.append(f'  "{manifest.name}" -> "{need}"{lost};')
        if manifest.fallback:
            lines.append(f'  "{manifest.name}" -> "{manifest.fallback}" [style=dotted];')
    return "\n".join([*lines, "}"])
