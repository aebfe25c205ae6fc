from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from smol.heap import return_free_memory, share_one_heap
if {shared}:
    share_one_heap()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p
found = []
thread = threading.Thread(target=lambda: found.append(malloc(100)))
thread.start()
thread.join()
brk = ctypes.CDLL(None).sbrk
brk.restype = ctypes.c_void_p
print(0 < brk(0) - found[0] < 1 << 30)
return_free_memory()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other heaps")
@pytest.mark.parametrize("shared", [True, False])
def test_threads_allocate_from_the_first_heap_once_it_is_shared(shared: bool) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(shared=shared)], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(shared)
