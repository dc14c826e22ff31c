"""Cases: large arguments, shared memory, and functions that are pickled."""

import contextlib
import os
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

from . import tasks
from .case import Context, case, expect, results
from .processes import MARK, marked
from .systems import Wrong

ARRAY_BYTES = 64 << 20

COPIES = 4
"""Of the array that a pool of two may have in memory besides the host's: one on its way to each worker, one in each."""

ARRAY_PATIENCE = 30.0
"""Seconds for all of its tasks: pools that send a gigabyte through pipes take up to ten, on a machine with nothing else
to do."""

LARGE_FILE_BYTES = 1 << 20
"""A file in memory below this is some lock."""


class Memory(threading.Thread):
    """The most memory that the case's processes have at a time, each shared page counted once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.first, self.peak = self.now(), 0
        self.start()

    @staticmethod
    def now() -> int:
        """Bytes."""
        total = 0
        for pid in [os.getpid(), *marked(os.environ[MARK])]:
            with contextlib.suppress(OSError, ValueError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) << 10
        return total

    def run(self) -> None:
        """Until the case ends."""
        while True:
            self.peak = max(self.peak, self.now() - self.first)
            time.sleep(0.005)


def large_files(folder: Path) -> set[str]:
    """Where pools put what they share."""
    found = set()
    for place in (Path("/dev/shm"), folder):
        for path in place.iterdir():
            with contextlib.suppress(OSError):
                if path.is_dir() or path.stat().st_size >= LARGE_FILE_BYTES:
                    found.add(str(path))
    return found


@case(
    "20",
    "A large argument is copied for each task",
    "an array of 64 MB, for 16 tasks (mpire: `shared_objects`; disttask: `put`): at most 4 copies in memory besides "
    "the host's at any time, no file left",
    seen="joblib/joblib#1310",
    slow=True,
)
def large_argument(context: Context) -> str:
    import numpy as np

    array = np.ones(ARRAY_BYTES // 8)
    pool = context.pool(shared=array)
    results(pool, [pool.submit(tasks.blas_threads) for _ in range(8)])  # NumPy is loaded by then
    files = large_files(context.folder)
    memory = Memory()
    arguments = pool.arguments()
    found = results(pool, [pool.submit(tasks.total, *arguments) for _ in range(16)], ARRAY_PATIENCE)
    copies = f"{memory.peak / ARRAY_BYTES:.1f} copies"
    expect(found, [ARRAY_BYTES / 8] * 16)
    expect(large_files(context.folder) - files, set(), "files left")
    if memory.peak / ARRAY_BYTES > COPIES:
        raise Wrong(copies)
    return copies


@case(
    "20",
    "Shared memory is unlinked with a worker",
    "a `SharedMemory` that a task has attached to: it is there after the pool's end",
    seen="python/cpython#82300",
)
def shared_memory(context: Context) -> None:
    memory = SharedMemory(create=True, size=1000)
    try:
        assert memory.buf is not None
        memory.buf[0] = 7
        pool = context.pool()
        expect(pool.call(tasks.attach, memory.name), 7)
        pool.close()
        time.sleep(0.5)  # for whoever tidies up after processes that have ended
        expect(os.path.exists(f"/dev/shm/{memory.name}"), True, "gone")
    finally:
        with contextlib.suppress(FileNotFoundError):
            memory.unlink()


@case(
    "21",
    "A function is pickled again for each item",
    "100 items of a `map`: at most once per worker",
    seen="joblib/joblib#800",
)
def pickled_once(context: Context) -> str:
    pool = context.pool()
    function = tasks.Counted()
    expect(list(pool.map(function, range(100))), list(range(100)))
    times = f"{tasks.Counted.pickled} times"
    if tasks.Counted.pickled > pool.wishes.workers:
        raise Wrong(times)
    return times
