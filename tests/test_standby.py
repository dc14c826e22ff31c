"""The replacement of a worker is started before the time-out of what it runs, and takes over at once."""

import os
import re
import signal
import time

import pytest

import disttask
import start_tasks
import tasks
from helpers import assert_usable, is_alive, wait_busy, wait_idle, wait_until
from tasks import lines


def catastrophe():
    """A regular expression that takes for ever, and the GIL with it."""
    re.match(r"(a+)+$", "a" * 50 + "b")


def pids(executor):
    """All processes of the pool, the standbys included."""
    return set(executor._pool.pids())


def start_late(executor, function=tasks.spin, timeout=2.0):
    """Submit something that will run into its time-out, and wait for the standby: future, worker and standby."""
    future = executor.options(timeout=timeout).submit(function)
    (worker,) = wait_busy(executor)
    standby = wait_until(lambda: pids(executor) - {worker}, 10, "a standby")
    assert [w["pid"] for w in executor.status()["workers"]] == [worker], "it is shown when it takes over"
    return future, worker, *standby


def leave_unused(executor, tmp_path):
    """Have a standby started for a task that is in time after all: worker and standby."""
    for attempt in range(20):  # the time between its start and the deadline is short: a busy machine may miss it
        go = tmp_path / f"go{attempt}"
        future = executor.options(timeout=3).submit(tasks.wait_for_file, go, "in time")
        (worker,) = wait_busy(executor)
        (standby,) = wait_until(lambda: pids(executor) - {worker}, 10, "a standby")  # noqa: B023  called in this very round
        go.touch()
        if future.exception(timeout=10) is None:
            return worker, standby
        wait_idle(executor)
    raise AssertionError("never in time")


@pytest.mark.parametrize("function", [tasks.spin, catastrophe])
def test_it_takes_over(make_executor, function):
    executor = make_executor(1)
    wait_idle(executor)
    future, worker, standby = start_late(executor, function)
    assert not future.done()
    behind = executor.submit(tasks.pid_of_worker)
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout
    assert behind.result(timeout=10) == standby
    assert not is_alive(worker)
    status = executor.status()["workers"]
    assert [(w["worker"], w["pid"], w["restarts"]) for w in status] == [(0, standby, 1)]
    assert pids(executor) == {standby}


def test_a_task_in_time_needs_none(make_executor):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    for number in range(200):
        assert executor.options(timeout=5).submit(tasks.add, number).result(timeout=10) == number + 1
    assert pids(executor) == {pid}


def test_an_unused_one_takes_over_when_its_neighbour_crashes(make_executor, tmp_path):
    """It stays for a while after the deadline that it was started for."""
    executor = make_executor(1)
    wait_idle(executor)
    worker, standby = leave_unused(executor, tmp_path)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: wait_idle(executor) == [standby], 10, "the standby in its place")
    assert_usable(executor)


def test_a_standby_that_dies_is_no_harm(make_executor):
    executor = make_executor(1)
    wait_idle(executor)
    future, _, standby = start_late(executor)
    os.kill(standby, signal.SIGKILL)
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout
    assert_usable(executor)
    assert executor.status()["totals"]["failed"] == 1


def test_a_standby_that_is_stopped_is_not_kept(make_executor, tmp_path):
    """Its heart is listened to: it would take over and do nothing."""
    executor = make_executor(1)
    wait_idle(executor)
    worker, standby = leave_unused(executor, tmp_path)
    time.sleep(1)  # so that it is ready: before that it is given a minute
    os.kill(standby, signal.SIGSTOP)
    wait_until(lambda: pids(executor) == {worker}, 8, "the stopped one is gone")
    assert_usable(executor)


def test_the_pool_is_shut_down_beside_one(make_executor):
    executor = make_executor(1)
    wait_idle(executor)
    future, worker, standby = start_late(executor)
    executor.shutdown(wait=True)
    assert type(future.exception()) is disttask.TaskTimeout
    assert not is_alive(worker)
    assert not is_alive(standby)


def test_what_waits_behind_is_neither_lost_nor_run_twice(make_executor, tmp_path):
    executor = make_executor(1)
    executor.submit(tasks.log, tmp_path / "warm", "up").result(timeout=10)
    for round_ in range(5):
        runs = tmp_path / f"runs{round_}"
        late = executor.options(timeout=0.2).submit(tasks.spin)
        behind = [executor.submit(tasks.log, runs, number) for number in range(1000)]
        assert type(late.exception(timeout=10)) is disttask.TaskTimeout
        for future in behind:
            future.result(timeout=20)
        assert sorted(map(int, lines(runs))) == list(range(1000))


def test_it_runs_the_initializer(make_executor):
    executor = make_executor(1, initializer=start_tasks.keep, initargs=("ready",))
    wait_idle(executor)
    _, _, standby = start_late(executor)
    assert executor.submit(start_tasks.kept).result(timeout=10) == [("ready", standby)]


def test_an_initializer_that_fails_in_it_breaks_the_pool(make_executor, tmp_path):
    flag = tmp_path / "flag"
    executor = make_executor(1, initializer=start_tasks.fail_if_exists, initargs=(str(flag),))
    wait_idle(executor)
    flag.touch()
    executor.options(timeout=2).submit(tasks.spin)
    exc = executor.submit(tasks.add, 1).exception(timeout=10)
    assert type(exc) is disttask.PoolBroken
    assert "the second time" in str(exc)


def test_it_goes_with_a_worker_that_has_had_all_its_tasks(make_executor, tmp_path):
    executor = make_executor(1, max_tasks_per_child=1)
    wait_idle(executor)
    worker, standby = leave_unused(executor, tmp_path)
    wait_until(lambda: not is_alive(worker) and not is_alive(standby), 10, "both are gone")
    (pid,) = wait_idle(executor)
    assert pids(executor) == {pid}
    assert_usable(executor, 3)
