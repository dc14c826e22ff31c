"""What the comparison with peers does not show: a million pending tasks, results that are held, a task's floor.

Run it with `make bench`.
"""

import gc
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import at_hand

import disttask

WORKERS = 2
FEW, MANY = 10_000, 1_000_000
HELD_MB = 100
HELD = 8
HELD_TURNS = 9


def resident_bytes() -> int:
    """Of this process."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def nothing(number: int) -> int:
    """A task of no work."""
    return number


def wait_at_gate(path: str) -> None:
    """Hold a worker until someone has the named pipe open for writing."""
    with open(path):
        pass


def filled() -> Any:
    """An array that the process has at hand, from the second time on."""
    return at_hand.array(HELD_MB * 125_000)


def pause(seconds: float) -> None:
    """Have another worker take the next task."""
    filled()
    time.sleep(seconds)


def pending(count: int) -> tuple[float, float]:
    """Bytes and microseconds per task, with so many pending before the first is run; futures held, unobserved."""
    with disttask.Executor(WORKERS) as executor, tempfile.TemporaryDirectory() as folder:
        list(executor.map(nothing, range(1000)))
        gate = f"{folder}/gate"
        os.mkfifo(gate)
        held = [executor.submit(wait_at_gate, gate) for _ in range(WORKERS)]
        gc.collect()
        before, start = resident_bytes(), time.perf_counter()
        futures = [executor.submit(nothing, number) for number in range(count)]
        submitted = time.perf_counter() - start
        size = resident_bytes() - before
        with open(gate, "w"):
            start = time.perf_counter()
            assert [future.result() for future in futures] == list(range(count))
            drained = time.perf_counter() - start
            for future in held:
                future.result()
        return size / count, 1e6 * (submitted + drained) / count


def hold_results() -> float:
    """GB/s of results that are all kept."""
    with disttask.Executor(WORKERS) as executor:
        list(executor.map(pause, [0.2] * 2 * WORKERS, chunksize=1))
        kept = [executor.submit(filled).result()]
        find_pages()
        start = time.perf_counter()
        under_way = [executor.submit(filled) for _ in range(2)]
        for _ in range(HELD - 2):
            kept.append(under_way.pop(0).result())
            under_way.append(executor.submit(filled))
        kept += [future.result() for future in under_way]
        return HELD * HELD_MB / 1000 / (time.perf_counter() - start)


def find_pages() -> None:
    """Use more memory than is about to be held, and let go of it.

    A virtual machine has to ask its host for pages that nobody has used for a while, which takes from once to ten times
    as long as filling them. Whoever holds more than the turn before has let go of would pay for that, the other not.
    """
    fd = os.memfd_create("pages")
    for _ in range(2 * HELD):
        os.write(fd, filled().data)
    os.close(fd)


def hold_files() -> float:
    """GB/s of memory files that are filled one after another and all kept.

    Pages have to be found, and on a virtual machine perhaps first made, as for results. A file that is closed before
    the next one is filled leaves its pages to that, which says nothing about what is held.
    """
    data = filled().data
    find_pages()
    start = time.perf_counter()
    files = [os.memfd_create("fresh") for _ in range(HELD)]
    for fd in files:
        os.write(fd, data)
    taken = time.perf_counter() - start
    for fd in files:
        os.close(fd)
    return HELD * HELD_MB / 1000 / taken


def held_results() -> tuple[float, float, float]:
    """The ratio of the two above, the median of those of turns taken one after the other; the least and the most."""
    ratios = sorted(hold_results() / hold_files() for _ in range(HELD_TURNS))
    return statistics.median(ratios), ratios[0], ratios[-1]


def per_call(call: Callable[[], Any], count: int = 200_000) -> float:
    """Nanoseconds."""
    best = min(_timed(call, count) for _ in range(5))
    return 1e9 * best / count


def _timed(call: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    print("| pending tasks | bytes each in the host | us each, submit and drain |\n|---|---|---|")
    for count in (FEW, MANY):
        runs = [pending(count) for _ in range(3 if count == FEW else 1)]
        size, cost = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"| {count:,} | {size:.0f} | {cost:.2f} |")
    ratio, least, most = held_results()
    rival = "what filling as many memory files gives"
    print(f"\n{HELD} results of {HELD_MB} MB, all held: {ratio:.2f} x ({least:.2f}-{most:.2f}) {rival}\n")
    empty = per_call(lambda: None)
    payload = pickle.dumps((5,), 5)
    with disttask.Executor(WORKERS) as executor:
        executor.submit(nothing, 1).result()
        trip = per_call(lambda: executor.submit(nothing, 5).result(), 20_000)
    print("| a task's floor | ns |\n|---|---|")
    both = per_call(lambda: pickle.loads(pickle.dumps((5,), 5))) - empty
    print(f"| pickle and unpickle the argument, twice | {2 * both:.0f} |")
    print(f"| unpickle only | {per_call(lambda: pickle.loads(payload)) - empty:.0f} |")
    print(f"| call the function | {per_call(lambda: nothing(5)) - empty:.0f} |")
    print(f"| submit, run in the worker, result | {trip - empty:.0f} |")


if __name__ == "__main__":
    main()
