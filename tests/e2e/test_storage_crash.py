"""Storage loses nothing it acknowledged: when it is killed, when the disk is full, when syncing fails."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from smol.errors import ResourceExhausted, SmolError, Unavailable
from smol.units.storage.unit import Storage

HARNESS = Path(__file__).with_name("storage_crash.py")


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    specification = importlib.util.spec_from_file_location("storage_crash", HARNESS)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["storage_crash"] = module
    specification.loader.exec_module(module)
    return module


def test_a_killed_store_keeps_every_acknowledged_write(harness: ModuleType, tmp_path: Path) -> None:
    total, refused = harness.soak(12, tmp_path, seed=5)
    assert total > 100
    assert refused == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_writes_and_loses_none(harness: ModuleType, small_disk: Path) -> None:
    async def scenario() -> tuple[set[str], list[BaseException]]:
        storage, context = Storage(), harness.context_of(small_disk)
        await storage.provision(context)
        keys = [f"{number:04}" for number in range(400)]
        outcomes = await asyncio.gather(
            *(storage.put(context, key, key * 5000) for key in keys), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        kept = {key for key, outcome in zip(keys, outcomes, strict=True) if not isinstance(outcome, BaseException)}
        for key in kept:
            assert (await storage.get(key)).value == key * 5000
        await storage.close()
        return kept, refused

    async def survivors() -> set[str]:
        storage, context = Storage(), harness.context_of(small_disk)
        await storage.provision(context)
        page = await storage.list(limit=1000, values=False)
        for entry in page.entries:
            assert (await storage.get(entry.key)).value == entry.key * 5000
        assert (await storage.status()).check == "ok"
        await storage.close()
        return {entry.key for entry in page.entries}

    kept, refused = asyncio.run(scenario())
    assert len(kept) > 10
    assert len(refused) > 10
    assert {type(error) for error in refused} == {ResourceExhausted}
    assert asyncio.run(survivors()) == kept


FAILING_SYNC = """
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/syscall.h>
static int fails(void) {
    const char *flag = getenv("FAILING_SYNC_FLAG");
    return flag && access(flag, F_OK) == 0;
}
int fsync(int descriptor) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fsync, descriptor);
}
int fdatasync(int descriptor) {
    if (fails()) { errno = EIO; return -1; }
    return (int)syscall(SYS_fdatasync, descriptor);
}
"""

SYNC_SCENARIO = """
import asyncio, importlib.util, json, os, signal, sys
from pathlib import Path
specification = importlib.util.spec_from_file_location("storage_crash", sys.argv[1])
harness = importlib.util.module_from_spec(specification)
sys.modules["storage_crash"] = harness
specification.loader.exec_module(harness)
from smol.units.storage.unit import Storage

async def main(folder, flag):
    storage, context = Storage(), harness.context_of(folder)
    await storage.provision(context)
    outcomes = {}
    for number in range(300):
        failing = number // 10 % 2 == 1
        flag.touch() if failing else flag.unlink(missing_ok=True)
        keys = [f"{number}/{side}" for side in "ab"]
        puts = [storage.put(context, key, key * 200) for key in keys]
        for key, result in zip(keys, await asyncio.gather(*puts, return_exceptions=True)):
            outcomes[key] = "ok" if not isinstance(result, Exception) else getattr(result, "code", repr(result))
    print(json.dumps(outcomes))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(Path(sys.argv[2]), Path(sys.argv[3])))
"""


def test_a_failed_sync_is_not_acknowledged_and_harms_no_other_write(harness: ModuleType, tmp_path: Path) -> None:
    source, library = tmp_path / "sync.c", tmp_path / "sync.so"
    source.write_text(FAILING_SYNC)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler to make a failing fsync with: {error}")
    folder, flag = tmp_path / "data", tmp_path / "flag"
    environment = {**os.environ, "LD_PRELOAD": str(library), "FAILING_SYNC_FLAG": str(flag)}
    command = [sys.executable, "-c", SYNC_SCENARIO, str(HARNESS), str(folder), str(flag)]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert child.stdout, child.stderr
    outcomes: dict[str, Any] = json.loads(child.stdout)
    assert {outcome for key, outcome in outcomes.items() if int(key.split("/")[0]) // 10 % 2} == {Unavailable.code}
    assert {outcome for key, outcome in outcomes.items() if not int(key.split("/")[0]) // 10 % 2} == {"ok"}

    async def survivors() -> dict[str, Any]:
        storage, context = Storage(), harness.context_of(folder)
        await storage.provision(context)
        found = {}
        for key in outcomes:
            try:
                found[key] = (await storage.get(key)).value
            except SmolError:
                found[key] = None
        assert (await storage.status()).check == "ok"
        await storage.close()
        return found

    found = asyncio.run(survivors())
    for key, outcome in outcomes.items():
        assert found[key] == key * 200 or (outcome != "ok" and found[key] is None)
