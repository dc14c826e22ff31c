"""SIGKILL at random moments, mostly inside an operation on a ring or an arena: all that the host sees is a death.

``DISTTASK_FULL=1`` kills a thousand times (see `make shows`); CI's run is smaller.
"""

import os
import pickle
import random
import signal
import threading
import time

import disttask
import tasks
from helpers import children, open_fds, wait_until, workers_in, zombies

KILLS = 1000 if os.environ.get("DISTTASK_FULL") else 30
LENGTHS = (10, 300, 40_000, 200_000, 3_000_000)
"""Within a frame, over several, at the largest of a ring, and in an arena."""

IN_FLIGHT = 24


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
            time.sleep(0.02 + self._random.random() * 0.06)  # the moment is what is random: this is the workload
            busy = workers_in(self._executor, "busy")  # idle ones that die again and again are held back, rightly
            if busy:
                try:
                    os.kill(self._random.choice(busy)["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue
                self.kills += 1

    def stop(self):
        self._stopped.set()
        self.join()


def check(length, salt, result):
    total, echo = result
    assert total == length * (salt % 251) + salt
    assert len(echo) == length
    assert set(echo) <= {salt % 251}


def test_kills_inside_rings_and_arenas(capsys):
    seed = int(os.environ.get("DISTTASK_SEED", "0")) or random.randrange(1, 2**32)
    dice = random.Random(seed)
    fds, processes = open_fds(), children()
    done = 0
    with disttask.Executor(2) as executor:
        submit = executor.options(retries=1000).submit
        killer = Killer(executor, seed)
        killer.start()
        try:
            flight = []
            while killer.is_alive() or flight:
                while killer.is_alive() and len(flight) < IN_FLIGHT:
                    length, salt = dice.choice(LENGTHS), dice.randrange(1000)
                    data = pickle.PickleBuffer(bytes([salt % 251]) * length)
                    flight.append((length, salt, submit(tasks.checked_sum, data, salt)))
                    flight.append((length, salt % 251, submit(tasks.array_of, length, salt % 251)))
                length, salt, future = flight.pop(dice.randrange(len(flight)))
                result = future.result(timeout=60)
                if isinstance(result, tuple):
                    check(length, salt, result)
                else:
                    assert bytes(result) == bytes([salt]) * length
                done += 1
                del result, future
        finally:
            killer.stop()
        totals = executor.status()["totals"]
        assert zombies() == []
    with capsys.disabled():
        print(f"\nseed {seed}: {killer.kills} kills, {done} right results, {totals['retried']} attempts granted again")
    assert killer.kills == KILLS
    assert totals["worker_deaths"] <= KILLS
    assert done > KILLS // 4
    assert totals["retried"] > KILLS // 10, "the kills hit what was at work"
    del submit, executor, killer
    wait_until(lambda: children() <= processes, 5, "all workers reaped")
    wait_until(lambda: len(open_fds()) <= len(fds), 5, f"descriptors closed: {fds} {open_fds()}")
