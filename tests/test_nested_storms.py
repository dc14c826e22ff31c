"""Nested tasks under signals that raise, and under death: nothing hangs, nothing is lost or run twice, the books agree.

What the tasks have written is the oracle. `DISTTASK_SEED` repeats a run's choices; ``DISTTASK_FULL=1`` lasts longer.
"""

import collections
import contextlib
import os
import random
import signal
import time

import pytest

import disttask
import nested_tasks
from helpers import assert_usable, wait_until, workers_in
from tasks import add, lines

FULL = bool(os.environ.get("DISTTASK_FULL"))
SECONDS = 60 if FULL else 3
ROUNDS = 30
OUTER_TASKS = 600 if FULL else 60
MIN_TICKS = 100
MIN_DEATHS = 10
MAX_KILLS = 300 if FULL else 15
"""By kill -9; other deaths the tasks see to themselves."""

ENDS = {"value", "error", "cancelled", "tick"}


def choose_seed():
    seed = int(os.environ.get("DISTTASK_SEED", "0")) or random.randrange(1, 2**32)
    print(f"DISTTASK_SEED={seed}")
    return seed


def books(executor):
    """The totals, once nothing is left to run: as many have ended as there were."""
    wait_until(lambda: executor.status()["running"] == executor.status()["queued"] == 0, 20, "nothing is left")
    totals = executor.status()["totals"]
    assert totals["succeeded"] + totals["failed"] + totals["cancelled"] == totals["submitted"]
    return totals


@pytest.mark.parametrize(("workers", "raised"), [(1, "Tick"), (2, "Tick"), (1, "KeyboardInterrupt"), (2, "Late")])
@pytest.mark.timeout(300)
def test_a_signal_handler_that_raises_loses_nothing(make_executor, tmp_path, workers, raised):
    seed, path = choose_seed(), tmp_path / "log"
    executor = make_executor(workers, max_pending=100)
    future = executor.submit(nested_tasks.raising, seed, str(path), SECONDS, raised)
    ticks, ends = future.result(timeout=SECONDS + 120)
    totals = books(executor)
    begun = collections.Counter(int(line) for line in lines(path))
    count = collections.Counter(ends.values())
    print(f"seed {seed}: {ticks} signals, {len(ends)} nested tasks: {dict(count)}")
    assert ticks >= MIN_TICKS, "it has interrupted next to nothing"
    assert set(count) <= ENDS
    assert max(begun.values()) == 1, "one was run twice"
    for number, how in ends.items():
        if how in ("value", "error"):
            assert begun[number] == 1, f"nested task {number} ended with {how}, and never ran"
        elif how == "cancelled":
            assert begun[number] == 0, f"nested task {number} was cancelled, and ran"
    assert totals["submitted"] == 1 + len(ends)
    assert totals["cancelled"] == count["cancelled"]
    assert totals["worker_deaths"] == 0
    assert_usable(executor)


def test_the_storm_leaves_no_signal_behind(executor):
    """One that came later would hit what is asked with no timer, as if it were our fault."""
    ticks, late = executor.submit(nested_tasks.overlooked, SECONDS).result(timeout=SECONDS + 60)
    print(f"{ticks} signals, {late} of them late")
    assert ticks >= MIN_TICKS, "it has interrupted next to nothing"
    assert late == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_broken_off_takes_no_place_in_the_queue(make_executor, tmp_path, workers):
    """More than the queue's bound; the futures are garbage that nobody collects."""
    path = tmp_path / "log"
    executor = make_executor(workers, max_pending=20)
    ticks = executor.submit(nested_tasks.claim_and_drop, str(path), 400).result(timeout=60)
    assert ticks >= 20, "it has interrupted next to nothing"
    totals = books(executor)
    assert totals["submitted"] == 401
    assert max(collections.Counter(lines(path)).values()) == 1
    assert [executor.submit(add, number).result(timeout=10) for number in range(40)] == list(range(1, 41))
    assert_usable(executor)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.timeout(600)
def test_workers_that_die_in_the_midst_of_it(make_executor, tmp_path, workers):
    seed, path = choose_seed(), tmp_path / "log"
    dice = random.Random(seed)
    executor = make_executor(workers)
    submitter = executor.options(retries=30, backoff=0.01)
    futures = [submitter.submit(nested_tasks.dying, seed, str(path), ROUNDS) for _ in range(OUTER_TASKS)]
    kills, right, crashed = 0, 0, 0
    while not all(future.done() for future in futures):
        time.sleep(dice.uniform(0.01, 0.2))  # the moment is what is random: this is the workload
        busy = [worker["pid"] for worker in workers_in(executor, "busy")]
        if busy and kills < MAX_KILLS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(busy), signal.SIGKILL)
                kills += 1
    for future in futures:
        exc = future.exception(timeout=60)
        if exc is None:
            right += future.result() == sum(number * number for number in range(ROUNDS))
        else:
            assert isinstance(exc, disttask.WorkerCrashed), exc
            crashed += 1
    totals = books(executor)
    begun = collections.Counter(lines(path))
    print(
        f"seed {seed}: {totals['worker_deaths']} deaths, {kills} of them by kill -9; {right} right values, {crashed} "
        f"given up, {len(begun)} nested tasks begun"
    )
    assert totals["worker_deaths"] >= MIN_DEATHS, "it has killed next to nobody"
    assert right + crashed == len(futures)
    assert max(begun.values()) == 1, "one was run twice, and had no retries"
    assert_usable(executor)


def test_what_has_ended_before_its_worker_died_counts(make_executor, tmp_path):
    path, times = tmp_path / "log", 20
    executor = make_executor(2, preload=["nested_tasks"])
    for number in range(times):
        with pytest.raises(disttask.WorkerCrashed):
            executor.submit(nested_tasks.run_and_die, str(path), number).result(timeout=20)
    totals = books(executor)
    assert len(lines(path)) == times
    assert (totals["failed"], totals["succeeded"]) == (times, times)
