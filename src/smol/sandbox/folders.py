"""Directories that hostile code has filled, where there is no private file system: measured and removed.

Standard library only: see `kernel`.
"""

from __future__ import annotations

import os
import stat

__all__ = ["count", "remove_tree"]


def count(path: str, most_bytes: int, most_files: int) -> bool:
    """Whether what lies in a directory stays within the limits; looks no further once it does not."""
    used, files, folders = 0, 0, [path]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    used, files = used + found.st_blocks * 512, files + 1
                    if used > most_bytes or files > most_files:
                        return False
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(entry.path)
        except OSError:
            continue  # It is being changed while we look, or is closed to us: the next look, or its parent, tells.
    return True


def remove_tree(path: str) -> None:
    """Remove a directory however deep it is: what lies deep is moved up, so that no path grows long."""
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    moved = 0
    try:
        while folders := _clear(top):
            for name in folders:
                os.chmod(name, 0o700, dir_fd=top)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    for deeper in _clear(inner):
                        moved += 1
                        os.chmod(deeper, 0o700, dir_fd=inner)
                        os.rename(deeper, f".removed-{moved}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _clear(directory: int) -> list[str]:
    """Remove all but the folders in a directory; their names."""
    folders = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=directory)
    return folders
