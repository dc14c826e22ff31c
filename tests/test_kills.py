"""SIGKILL at random moments, mostly inside an operation on a ring or an arena: all that the host sees is a death.

``DISTTASK_FULL=1`` kills a thousand times (see `make shows`); CI's run is smaller.
"""

import os
import pickle
import random
import signal
import threading
import time

import pytest

import disttask
import tasks
from helpers import children, open_fds, wait_until, workers_in, zombies

FULL = bool(os.environ.get("DISTTASK_FULL"))
KILLS = 1000 if FULL else 30
LENGTHS = (10, 300, 40_000, 200_000, 3_000_000)
"""Within a frame, over several, at the largest of a ring, and in an arena."""

IN_FLIGHT = 24

WAITS = (0.0, 0.05)
"""Between two kills, in seconds."""

LOOK = 0.05
"""Seconds for one result, before another is looked at."""

WARM = 3
"""Tasks that a worker has done before it is killed."""


class Killer(threading.Thread):
    """Kills a random worker after a random wait. What runs is short, so a worker mostly takes, copies and answers."""

    def __init__(self, executor, seed):
        super().__init__()
        self.kills = 0
        self._executor = executor
        self._random = random.Random(seed)
        self._stopped = threading.Event()

    def run(self):
        while self.kills < KILLS and not self._stopped.is_set():
            time.sleep(self._random.uniform(*WAITS))  # the moment is what is random: this is the workload
            # Not those that have yet to import the tasks: workers that die young again and again are held back.
            busy = [worker["pid"] for worker in workers_in(self._executor, "busy") if worker["tasks_done"] >= WARM]
            if busy:
                pid = self._random.choice(busy)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it has just been reaped
                self.kills += 1

    def stop(self):
        self._stopped.set()
        self.join()


class Work:
    """A task and what must come of it."""

    def __init__(self, submit, dice):
        length, salt = dice.choice(LENGTHS), dice.randrange(8)
        self._data = tasks.pattern(length, salt)
        if dice.random() < 0.5:
            self._future = submit(tasks.echo, pickle.PickleBuffer(self._data))
        else:
            self._future = submit(tasks.patterned, length, salt)

    def is_right(self):
        """Whether it is done, and then rightly. A task that was killed often waits for long: others go on meanwhile."""
        try:
            result = self._future.result(timeout=LOOK)
        except TimeoutError:
            return False
        assert bytes(result) == self._data
        return True


@pytest.mark.timeout(1800 if FULL else 120)
def test_kills_inside_rings_and_arenas(capsys):
    seed = int(os.environ.get("DISTTASK_SEED", "0")) or random.randrange(1, 2**32)
    dice = random.Random(seed)
    fds, processes = open_fds(), children()
    done = 0
    started = time.monotonic()
    with disttask.Executor(2) as executor:
        submit = executor.options(retries=1000).submit
        killer = Killer(executor, seed)
        killer.start()
        try:
            flight, late = [], []
            while killer.is_alive() or flight or late:
                while killer.is_alive() and len(flight) < IN_FLIGHT:
                    flight.append(Work(submit, dice))
                work = flight.pop(dice.randrange(len(flight))) if flight else late.pop(0)
                if work.is_right():
                    done += 1
                else:
                    late.append(work)
        finally:
            killer.stop()
        totals = executor.status()["totals"]
        wait_until(lambda: zombies() == [], 5, "all of the dead reaped")
    with capsys.disabled():
        print(
            f"\nseed {seed}: {killer.kills} kills, {done} right results, "
            f"{totals['retried']} attempts granted again, {time.monotonic() - started:.0f} s"
        )
    assert killer.kills == KILLS
    assert totals["worker_deaths"] <= KILLS, f"workers died of something else: {totals}"
    assert done > KILLS // 4
    assert totals["retried"] > KILLS // 10, "the kills hit what was at work"
    del submit, executor, killer, flight, late, work
    wait_until(lambda: children() <= processes, 5, "all workers reaped")
    wait_until(lambda: len(open_fds()) <= len(fds), 5, f"descriptors closed: {fds} {open_fds()}")
