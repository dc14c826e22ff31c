"""A storm: workers are killed all the time, and nothing is lost, wrong, run too often or left over.

``DISTTASK_FULL=1`` lasts for minutes (see `make shows`); CI's storm is smaller.
"""

import os
import random
import signal
import threading
import time
from concurrent.futures import wait

import pytest

import disttask
from helpers import children, open_fds, wait_until, workers_in, zombies
from tasks import lines

FULL = bool(os.environ.get("DISTTASK_FULL"))
TASKS = 200_000 if FULL else 20_000
TASK_SECONDS = 0.002
WORKERS = 3
KILL_EVERY_SECONDS = 0.25
MIN_KILLS = 20


def work(path, number):
    """One line for each execution; then about 2 ms, of which a kill takes its share."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{number}\n".encode())
    os.close(fd)
    time.sleep(TASK_SECONDS)
    return number * 7


class Killer(threading.Thread):
    """Kills a random busy worker every so often."""

    def __init__(self, executor, seed):
        super().__init__()
        self.kills = 0
        self._executor = executor
        self._random = random.Random(seed)
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(KILL_EVERY_SECONDS):
            busy = workers_in(self._executor, "busy")
            if busy:
                os.kill(self._random.choice(busy)["pid"], signal.SIGKILL)
                self.kills += 1

    def stop(self):
        self._stopped.set()
        self.join()


@pytest.mark.timeout(1800 if FULL else 120)
def test_storm(tmp_path):
    seed = int(os.environ.get("DISTTASK_SEED", "0")) or random.randrange(1, 2**32)
    print(f"DISTTASK_SEED={seed}")
    log = tmp_path / "executions"
    fds, processes = open_fds(), children()
    started = time.monotonic()
    with disttask.Executor(WORKERS) as executor:
        killer = Killer(executor, seed)
        killer.start()
        try:
            # The waits do not double for long: on a busy machine a new worker takes longer to import this module than
            # the killer waits, so the same task may be hit again and again.
            submit = executor.options(retries=50, backoff=(0.1, 1)).submit
            futures = [submit(work, log, number) for number in range(TASKS)]
            assert not wait(futures, timeout=1500 if FULL else 100).not_done
        finally:
            killer.stop()
        assert zombies() == []
        totals = executor.status()["totals"]
    seconds = time.monotonic() - started
    executions = len(lines(log))
    print(f"seed {seed}: {TASKS} tasks, {killer.kills} kills, {executions} executions, {seconds:.1f} s")
    assert [future.result(timeout=0) for future in futures] == [number * 7 for number in range(TASKS)]
    assert len(set(lines(log))) == TASKS
    assert TASKS <= executions <= TASKS + killer.kills
    assert killer.kills >= MIN_KILLS
    assert totals["succeeded"] == TASKS
    assert totals["worker_deaths"] == killer.kills
    del futures, submit, executor, killer
    wait_until(lambda: children() <= processes, 5, "all workers reaped")
    wait_until(lambda: len(open_fds()) <= len(fds), 5, f"descriptors closed: {fds} {open_fds()}")
