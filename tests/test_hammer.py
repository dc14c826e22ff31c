"""Everything that waits, on eight threads at once, while workers are killed: no wake-up is lost.

Each wait has a time limit that is far above what it can take, so one that is reached is a wake-up that was lost.
`DISTTASK_HAMMER_SECONDS` says for how long (`make shows`: 60), `DISTTASK_SEED` repeats a run's choices.
"""

import asyncio
import concurrent.futures as cf
import os
import random
import signal
import threading
import time

from tqdm import tqdm

import tasks
from helpers import wait_idle, workers_in

SECONDS = float(os.environ.get("DISTTASK_HAMMER_SECONDS", "4"))
THREADS = 8
WORKERS = 3
PATIENCE = 30.0
"""Seconds of the longest wait. What is waited for takes some milliseconds, and a worker's start less than a second."""
KILL_EVERY_SECONDS = 0.15
RETRIES = 10_000
"""Any number that a run cannot reach: a task that is killed is run again."""


def slow(number):
    time.sleep(0.002)
    return number * 3


def quick(number):
    return number * 3


def by_wait(submit, numbers, dice):
    futures = [submit(dice.choice((slow, quick)), number) for number in numbers]
    pending = set(futures)
    if dice.random() < 0.5:
        while pending:
            done, pending = cf.wait(pending, PATIENCE, cf.FIRST_COMPLETED)
            assert done, "a wake-up was lost"
    assert not cf.wait(futures, PATIENCE).not_done, "a wake-up was lost"
    return [future.result(timeout=0) for future in futures]


def by_as_completed(submit, numbers, dice):
    futures = {submit(dice.choice((slow, quick)), number): number for number in numbers}
    found = {futures[future]: future.result(timeout=0) for future in cf.as_completed(futures, PATIENCE)}
    return [found[number] for number in numbers]


def by_run_in_executor(submitter, numbers, dice):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(submitter, dice.choice((slow, quick)), number) for number in numbers]
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*calls)

    return asyncio.run(main())


def by_await(submitter, numbers, dice):
    async def main():
        function, ordered = dice.choice((slow, quick)), dice.random() < 0.5
        results = submitter.amap(function, numbers, ordered=ordered, timeout=PATIENCE)
        found = [value async for value in results]
        return found if ordered else sorted(found)

    return asyncio.run(main())


def by_process_map(submitter, numbers, dice):
    """What `tqdm.contrib.concurrent.process_map` does with its executor."""
    with open(os.devnull, "w") as nowhere:
        results = submitter.map(dice.choice((slow, quick)), numbers, chunksize=dice.choice((1, 5)), timeout=PATIENCE)
        return list(tqdm(results, total=len(numbers), file=nowhere))


def by_callback(submit, numbers, dice):
    found, all_there = {}, threading.Event()

    def arrived(future, number):
        found[number] = future.result(timeout=0)
        if len(found) == len(numbers):
            all_there.set()

    for number in numbers:
        future = submit(dice.choice((slow, quick)), number)
        future.add_done_callback(lambda future, number=number: arrived(future, number))
    assert all_there.wait(PATIENCE), "a wake-up was lost"
    return [found[number] for number in numbers]


def by_result(submit, numbers, dice):
    futures = [submit(dice.choice((slow, quick)), number) for number in numbers]
    return [future.result(timeout=PATIENCE) for future in futures]


class Hammer(threading.Thread):
    """Waits in one way after another until the time is over."""

    def __init__(self, executor, seed, end):
        super().__init__()
        self.rounds, self.problem = 0, None
        self._submitter = executor.options(retries=RETRIES)
        self._dice, self._end = random.Random(seed), end

    def run(self):
        submit = self._submitter.submit
        ways = [(by_wait, submit), (by_as_completed, submit), (by_callback, submit), (by_result, submit)]
        ways += [(way, self._submitter) for way in (by_run_in_executor, by_await, by_process_map)]
        try:
            while time.monotonic() < self._end:
                way, through = self._dice.choice(ways)
                first = self._dice.randrange(1_000_000)
                numbers = range(first, first + self._dice.choice((1, 3, 40)))
                got = way(through, numbers, self._dice)
                assert got == [number * 3 for number in numbers], way.__name__
                self.rounds += 1
        except BaseException as exc:
            self.problem = exc


def kill_until(executor, dice, end):
    """Kill a random worker every so often; how many it were."""
    kills = 0
    while time.monotonic() < end:
        time.sleep(KILL_EVERY_SECONDS)
        alive = workers_in(executor, "busy") + workers_in(executor, "idle")
        if alive:
            try:
                os.kill(dice.choice(alive)["pid"], signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was dying already
            kills += 1
    return kills


def test_no_wake_up_is_lost(make_executor):
    seed = int(os.environ.get("DISTTASK_SEED", "0")) or random.randrange(1, 2**32)
    print(f"DISTTASK_SEED={seed}")
    executor = make_executor(WORKERS)
    wait_idle(executor)
    end = time.monotonic() + SECONDS
    hammers = [Hammer(executor, seed + number, end) for number in range(THREADS)]
    for hammer in hammers:
        hammer.start()
    kills = kill_until(executor, random.Random(seed), end)
    for hammer in hammers:
        hammer.join(2 * PATIENCE)
    rounds = sum(hammer.rounds for hammer in hammers)
    print(f"seed {seed}: {rounds} waits of {THREADS} threads, {kills} kills, {SECONDS:.0f} s")
    problems = [hammer.problem for hammer in hammers if hammer.problem is not None]
    if problems:
        raise problems[0]
    assert not any(hammer.is_alive() for hammer in hammers)
    assert kills >= SECONDS, "nearly nothing was killed: this run has shown nothing"
    assert rounds >= 10 * SECONDS
    assert executor.submit(tasks.add, 1, 1).result(timeout=PATIENCE) == 2
