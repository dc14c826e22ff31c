"""Large arguments and results in turns with a plain copy of as many bytes: a machine's speed changes meanwhile.

`bench/peers.py` takes the plain copy once, minutes before. Run it with `make bench`.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import at_hand
import numpy as np

import disttask

WORKERS = 2
NUMBERS = 12_500_000  # 100 MB
STREAM = 10
COPIES = 5
TURNS = 15
IN_FLIGHT = 2


def add_up(array: Any) -> float:
    """Read every byte of an argument."""
    return float(array.sum())


def stream(call: Callable[[], Future[Any]], look: Callable[[Any], None]) -> float:
    """GB/s with two in flight, each result looked at and dropped as it comes."""
    start = time.perf_counter()
    under_way: list[Future[Any]] = []
    for _ in range(STREAM):
        under_way.append(call())
        if len(under_way) == IN_FLIGHT:
            look(under_way.pop(0).result())
    for future in under_way:
        look(future.result())
    return STREAM * NUMBERS * 8 / (time.perf_counter() - start) / 1e9


def look_at_sum(total: float) -> None:
    """Of `add_up`."""
    assert total == NUMBERS


def look_at_pages(array: Any) -> None:
    """Of arrays that workers have at hand: what is measured is their way. Every page is read."""
    assert float(array[::512].sum()) == len(array[::512])


def copy(source: Any, target: Any) -> float:
    """GB/s of `np.copyto`, between arrays that stay."""
    taken = []
    for _ in range(COPIES):
        start = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - start)
    return float(source.nbytes / statistics.median(taken) / 1e9)


def main() -> None:
    """Print the table."""
    source = np.ones(NUMBERS)
    target = np.zeros(NUMBERS)
    copy(source, target)
    with disttask.Executor(WORKERS) as executor:
        ways: dict[str, Callable[[], float]] = {
            "argument": lambda: stream(lambda: executor.submit(add_up, source), look_at_sum),
            "result": lambda: stream(lambda: executor.submit(at_hand.array, NUMBERS), look_at_pages),
        }
        print(f"Streams of 100 MB in turns with the plain copy, medians of {TURNS} turns (least-most):\n")
        print("| each task has | GB/s | plain copy, GB/s | ratio |\n|---|---|---|---|")
        for name, way in ways.items():
            way()  # warm: every worker has numpy, and pages
            turns = []
            before = copy(source, target)
            for _ in range(TURNS):
                speed, after = way(), copy(source, target)
                plain = (before + after) / 2
                turns.append((speed / plain, speed, plain))
                before = after
            ratio, speed, plain = (statistics.median(column) for column in zip(*turns, strict=True))
            least, most = min(turns)[0], max(turns)[0]
            print(f"| a large {name} | {speed:.2f} | {plain:.2f} | {ratio:.2f} ({least:.2f}-{most:.2f}) |")


if __name__ == "__main__":
    main()
