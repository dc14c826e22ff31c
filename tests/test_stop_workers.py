"""`terminate_workers` and `kill_workers`."""

import time

import pytest

import disttask
import start_tasks
from helpers import is_alive, wait_busy, wait_idle, wait_until
from tasks import lines, pid_of_worker, sleep

WAYS = [disttask.Executor.terminate_workers, disttask.Executor.kill_workers]


@pytest.mark.parametrize("stop", WAYS)
def test_workers_go_what_runs_fails_and_what_waits_is_cancelled(make_executor, stop):
    executor = make_executor(2)
    pids = wait_idle(executor)
    running = [executor.options(retries=5).submit(sleep, 60) for _ in range(2)]
    wait_busy(executor, 2)
    waiting = [executor.submit(sleep, 60) for _ in range(10)]
    stop(executor)
    for future in running:
        with pytest.raises(disttask.PoolShutdown):
            future.result(timeout=10)
    assert all(future.cancelled() for future in waiting)
    wait_until(lambda: not any(map(is_alive, pids)))
    executor.shutdown()
    assert executor.status()["workers"] == []


@pytest.mark.parametrize("stop", WAYS)
def test_nothing_more_is_taken(make_executor, stop):
    executor = make_executor(1)
    assert executor.submit(pow, 2, 3).result(timeout=20) == 8
    stop(executor)
    with pytest.raises(RuntimeError, match="cannot schedule new futures"):
        executor.submit(pow, 2, 3)
    stop(executor)  # a second time does nothing
    executor.shutdown()
    stop(executor)


@pytest.mark.parametrize("stop", WAYS)
def test_results_that_are_there_stay(make_executor, stop):
    executor = make_executor(2)
    futures = [executor.submit(pow, number, 2) for number in range(50)]
    wait_until(lambda: all(future.done() for future in futures))
    stop(executor)
    assert [future.result(timeout=0) for future in futures] == [number**2 for number in range(50)]


@pytest.mark.parametrize("stop", WAYS)
def test_before_the_first_worker_is_ready(make_executor, stop):
    executor = make_executor(2)
    futures = [executor.submit(pow, 2, 3) for _ in range(5)]
    stop(executor)
    executor.shutdown()
    assert all(future.done() for future in futures)


def test_a_worker_may_catch_the_first_signal_but_is_killed_in_the_end(make_executor, tmp_path):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    path = str(tmp_path / "log")
    executor.submit(start_tasks.ignore_sigterm, path)
    wait_until(lambda: lines(path) == ["ready"])
    executor.terminate_workers()
    wait_until(lambda: lines(path) == ["ready", "term"])
    assert is_alive(pid)
    wait_until(lambda: not is_alive(pid), 10, "killed after 5 s")


def test_kill_workers_does_not_ask(make_executor, tmp_path):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    path = str(tmp_path / "log")
    executor.submit(start_tasks.ignore_sigterm, path)
    wait_until(lambda: lines(path) == ["ready"])
    started = time.monotonic()
    executor.kill_workers()
    executor.shutdown()
    assert time.monotonic() - started < 4
    assert not is_alive(pid)
    assert lines(path) == ["ready"]


def test_inside_a_with_block(make_executor):
    with make_executor(1) as executor:
        future = executor.submit(sleep, 60)
        wait_busy(executor)
        executor.kill_workers()
    assert isinstance(future.exception(timeout=0), disttask.PoolShutdown)
    with pytest.raises(RuntimeError):
        executor.submit(pid_of_worker)
