"""How soon a worker's place is free again after a hard time-out, with a thousand short tasks waiting behind it.

`DEADLINE` seconds after its start the task is to end, whatever it does. What is measured is the time from then until
the first task behind it has run in that place; what the tasks write into a file says that none was lost or run twice.
Run it with `tests/shows.sh timeouts`.
"""

import collections
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import disttask

DEADLINE = 0.2
TIMES = 50
BEHIND = 1000


def note(path: str, word: object) -> None:
    """Append a line: one write, so that it is there whole, or not at all."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)


def endless_loop(started: str) -> None:
    """Python code that never ends."""
    note(started, time.monotonic())
    while True:
        pass


def catastrophic_re(started: str) -> None:
    """A C call that keeps the GIL for hours."""
    note(started, time.monotonic())
    re.match(r"(a+)+$", "a" * 40 + "b")


def behind(path: str, number: int) -> float:
    """A short task; returns when it ran."""
    note(path, number)
    return time.monotonic()


def delay(executor: disttask.Executor, function: Callable[[str], None], folder: Path) -> float:
    """Milliseconds from the deadline until a task behind has run."""
    started, ran = str(folder / "started"), str(folder / "ran")
    hog = executor.options(timeout=DEADLINE).submit(function, started)
    others = [executor.submit(behind, ran, number) for number in range(BEHIND)]
    assert isinstance(hog.exception(), disttask.TaskTimeout)
    first: float = min(future.result() for future in others)
    times = collections.Counter(Path(ran).read_text().split())
    assert times == dict.fromkeys(map(str, range(BEHIND)), 1), "lost, or run twice"
    return 1e3 * (first - float(Path(started).read_text()) - DEADLINE)


def main() -> None:
    """Print a line for each kind of task."""
    for function in (endless_loop, catastrophic_re):
        with disttask.Executor(1) as executor:
            list(executor.map(abs, range(100)))
            delays = []
            for _ in range(TIMES):
                with tempfile.TemporaryDirectory() as folder:
                    delays.append(delay(executor, function, Path(folder)))
        p95 = statistics.quantiles(delays, n=20)[-1]
        print(
            f"{function.__name__}: {TIMES} kills, {statistics.median(delays):.1f} ms (median), {p95:.1f} (p95) and "
            f"{max(delays):.1f} (most) until the next task has run; each of {BEHIND:,} behind ran once, each time"
        )


if __name__ == "__main__":
    main()
