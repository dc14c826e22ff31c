"""`max_tasks_per_child`: workers that are replaced after so many tasks, and nothing lost or run twice."""

import os
import signal
import threading
import time
from collections import Counter

import pytest

import disttask
import start_tasks
from helpers import is_alive, wait_idle, wait_until, workers_in, zombies
from tasks import DEATHS, add, lines, log, logged_sleep, pid_of_worker, sleep, wait_for_file


def test_a_worker_is_replaced_after_so_many_tasks(make_executor):
    executor = make_executor(1, max_tasks_per_child=3)
    pids = [executor.submit(pid_of_worker).result(timeout=20) for _ in range(9)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_no_task_is_lost_or_run_twice(make_executor, tmp_path, limit):
    """All are there at once, and short, so many would be sent ahead."""
    executor = make_executor(2, max_tasks_per_child=limit)
    path = str(tmp_path / "log")
    futures = [executor.submit(log_pid, path, number) for number in range(30)]
    pids = [future.result(timeout=60) for future in futures]
    assert Counter(lines(path)) == Counter(map(str, range(30)))
    assert max(Counter(pids).values()) <= limit
    assert executor.status()["totals"]["worker_deaths"] == 0


def log_pid(path, number):
    log(path, number)
    return os.getpid()


def test_an_attempt_that_raised_was_a_task(make_executor, tmp_path):
    path = str(tmp_path / "log")
    options = make_executor(1, max_tasks_per_child=1).options(retries=2, retry_on=ValueError, backoff=0.001)
    assert options.submit(raise_twice, path).result(timeout=20) == "done"
    assert len(set(lines(path))) == 3, "each attempt in a process of its own"


def raise_twice(path):
    log(path, os.getpid())
    if len(lines(path)) < 3:
        raise ValueError
    return "done"


def test_never_more_tasks_at_once_than_workers(make_executor, tmp_path):
    executor = make_executor(1, max_tasks_per_child=1)
    path = str(tmp_path / "log")
    futures = [executor.submit(begin_and_end, path) for _ in range(6)]
    for future in futures:
        future.result(timeout=60)
    assert lines(path) == ["begin", "end"] * 6


def begin_and_end(path):
    log(path, "begin")
    time.sleep(0.05)
    log(path, "end")


def test_the_next_worker_starts_while_the_last_one_leaves(make_executor):
    """It has a thread that keeps it from ending, until it is killed."""
    executor = make_executor(1, max_tasks_per_child=1)
    old = executor.submit(start_tasks.leave_a_thread).result(timeout=20)
    new = executor.submit(pid_of_worker).result(timeout=20)
    assert new != old
    assert is_alive(old)
    assert next(worker["pid"] for worker in workers_in(executor, "draining")) == old
    wait_until(lambda: not is_alive(old), 10, "killed when its 5 s are over")


def test_shutdown_right_after_submit_runs_everything(make_executor):
    executor = make_executor(3, max_tasks_per_child=1)
    futures = [executor.submit(add, number, number) for number in range(8)]
    executor.shutdown()
    assert [future.result(timeout=0) for future in futures] == [2 * number for number in range(8)]


def test_many_threads_and_short_tasks(make_executor):
    executor = make_executor(2, max_tasks_per_child=5)
    sums = []

    def work():
        sums.append(sum(executor.submit(add, 1).result(timeout=60) for _ in range(30)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [60] * 4


def test_map_counts_each_item(make_executor):
    executor = make_executor(1, max_tasks_per_child=4)
    pids = list(executor.map(pid_of_worker, range(12)))
    assert max(Counter(pids).values()) <= 4
    chunked = list(executor.map(pid_of_worker, range(12), chunksize=6))
    assert len(set(chunked)) == 1, "a chunk that was asked for is one task"


def test_killed_in_the_middle(make_executor, tmp_path):
    """Something has a result between two kills: on a busy machine nothing would ever, otherwise."""
    executor = make_executor(2, max_tasks_per_child=3)
    path = str(tmp_path / "log")
    stop = threading.Event()
    futures = []

    def kill():
        done = -1
        while not stop.wait(0.02):
            before, done = done, sum(future.done() for future in futures)
            if done == before:
                continue
            for worker in workers_in(executor, "busy")[:1]:
                try:
                    os.kill(worker["pid"], signal.SIGKILL)
                except ProcessLookupError:
                    continue

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        careful = executor.options(retries=1000)
        futures += [careful.submit(logged_sleep, path, number, 0.01) for number in range(60)]
        assert [future.result(timeout=100) for future in futures] == list(range(60))
    finally:
        stop.set()
        killer.join()
    assert set(lines(path)) == {str(number) for number in range(60)}
    assert executor.status()["totals"]["worker_deaths"] > 0


def test_a_timeout_on_the_last_task(make_executor):
    executor = make_executor(1, max_tasks_per_child=2)
    executor.submit(add, 1).result(timeout=20)
    with pytest.raises(disttask.TaskTimeout):
        executor.options(timeout=0.2).submit(sleep, 60).result(timeout=20)
    assert executor.submit(add, 1).result(timeout=20) == 2


def test_a_task_that_is_cancelled_in_time_does_not_count(make_executor, tmp_path):
    executor = make_executor(1, max_tasks_per_child=2)
    running = executor.submit(wait_for_file, str(tmp_path / "go"))
    waiting = [executor.submit(add, 1) for _ in range(10)]
    assert all(future.cancel() for future in waiting[1:])
    (tmp_path / "go").touch()
    running.result(timeout=20)
    assert waiting[0].result(timeout=20) == 2


def test_idle_ones_leave_too_and_nothing_is_left_behind(make_executor):
    executor = make_executor(2, max_tasks_per_child=1)
    pids = {executor.submit(pid_of_worker).result(timeout=20) for _ in range(6)}
    assert len(pids) == 6
    now = set(wait_idle_ones(executor))
    assert not now & pids
    wait_until(lambda: not zombies() and not any(map(is_alive, pids)), 10)


def wait_idle_ones(executor):
    """Two workers that are idle, and none that leaves."""

    def settled():
        workers = executor.status()["workers"]
        return [w["pid"] for w in workers] if {w["state"] for w in workers} == {"idle"} and len(workers) == 2 else None

    return wait_until(settled)


def test_none_is_replaced_without_a_limit(executor):
    before = wait_idle(executor)
    for _ in range(300):
        executor.submit(add, 1).result(timeout=20)
    assert wait_idle(executor) == before


def test_a_crash_starts_the_count_anew(make_executor):
    executor = make_executor(1, max_tasks_per_child=2)
    with pytest.raises(disttask.WorkerCrashed):
        executor.submit(DEATHS["exit"]).result(timeout=20)
    pids = [executor.submit(pid_of_worker).result(timeout=20) for _ in range(4)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2]


@pytest.mark.parametrize("wrong", [0, -1])
def test_less_than_one_is_an_error(wrong):
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        disttask.Executor(1, max_tasks_per_child=wrong)


@pytest.mark.parametrize("wrong", [True, 1.5, "1"])
def test_so_is_what_is_no_number(wrong):
    with pytest.raises(TypeError, match="max_tasks_per_child must be an int"):
        disttask.Executor(1, max_tasks_per_child=wrong)
