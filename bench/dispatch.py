"""What a task costs, beside ProcessPoolExecutor and multiprocessing.Pool in the same run. Run it with `make bench`.

Two workers each. The systems take turns within a repeat, and the order turns round every repeat, so that a machine that
speeds up or slows down does it to all of them. Quote the ratios.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import disttask

WORKERS = 2
REPEATS = 5
SUBMITS = 20_000
ROUND_TRIPS = 2_000

Submit = Callable[[Callable[..., Any], Any], Callable[[], Any]]
"""Starts a call; returns what waits for its result."""


@contextmanager
def with_disttask() -> Iterator[Submit]:
    """Ours."""
    with disttask.Executor(WORKERS) as executor:
        yield lambda f, x: executor.submit(f, x).result


@contextmanager
def with_process_pool() -> Iterator[Submit]:
    """The standard library's executor, forking."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as executor:
        yield lambda f, x: executor.submit(f, x).result


@contextmanager
def with_mp_pool() -> Iterator[Submit]:
    """The standard library's older pool, forking."""
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        yield lambda f, x: pool.apply_async(f, (x,)).get


SYSTEMS = {"disttask": with_disttask, "ProcessPoolExecutor": with_process_pool, "mp.Pool": with_mp_pool}


def throughput(submit: Submit) -> float:
    """Single submits gathered, per second."""
    began = time.perf_counter()
    waits = [submit(abs, number) for number in range(SUBMITS)]
    assert sum(wait() for wait in waits) == SUBMITS * (SUBMITS - 1) // 2
    return SUBMITS / (time.perf_counter() - began)


def latency(submit: Submit) -> float:
    """Median of submit and result, in microseconds."""
    seconds = []
    for number in range(ROUND_TRIPS):
        began = time.perf_counter()
        assert submit(abs, number)() == number
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) * 1e6


def main() -> None:
    """Measure and print."""
    rates: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    waits: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for repeat in range(REPEATS):
        for name in list(SYSTEMS) if repeat % 2 == 0 else list(SYSTEMS)[::-1]:
            with SYSTEMS[name]() as submit:
                for warm_up in range(200):
                    submit(abs, warm_up)()
                rates[name].append(throughput(submit))
                waits[name].append(latency(submit))
    ours = statistics.median(rates["disttask"]), statistics.median(waits["disttask"])
    print(f"medians of {REPEATS} repeats, {WORKERS} workers; ratios above 1: disttask is better\n")
    print("| system | submits per s | ratio | submit + result, us | ratio |\n|---|---|---|---|---|")
    for name in SYSTEMS:
        rate, wait = statistics.median(rates[name]), statistics.median(waits[name])
        print(f"| {name} | {rate:,.0f} | {ours[0] / rate:.1f} | {wait:.0f} | {wait / ours[1]:.1f} |")


if __name__ == "__main__":
    main()
