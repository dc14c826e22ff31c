"""`Executor(max_pending=...)`: a queue with a bound."""

import os
import queue
import signal
import threading
import time

import pytest

import disttask
import tasks
from helpers import wait_busy, wait_until


def unfinished(executor):
    status = executor.status()
    return status["queued"] + status["running"]


def wait_queuing(executor):
    """Wait until a thread waits for room."""
    wait_until(lambda: executor._pool.queuing == 1, 10, "a submit that waits")


def in_thread(call):
    """Run it in a thread that keeps what came of it."""

    def run():
        try:
            thread.outcome = call()
        except BaseException as exc:
            thread.outcome = exc

    thread = threading.Thread(target=run)
    thread.outcome = None
    thread.start()
    return thread


def test_submit_waits_until_a_task_has_ended(make_executor, tmp_path):
    executor = make_executor(1, max_pending=3)
    gates = [tmp_path / str(n) for n in range(3)]
    futures = [executor.submit(tasks.wait_for_file, str(gate), n) for n, gate in enumerate(gates)]
    late = in_thread(lambda: executor.submit(tasks.add, 1, 1))
    wait_queuing(executor)
    assert late.outcome is None
    assert unfinished(executor) == 3
    gates[0].touch()
    late.join(10)
    gates[1].touch()
    gates[2].touch()
    assert late.outcome.result(timeout=10) == 2
    assert [future.result(timeout=10) for future in futures] == [0, 1, 2]


def test_a_full_queue_refuses_where_it_is_told_to(make_executor, tmp_path):
    executor = make_executor(1, max_pending=2, on_full="raise")
    gate = tmp_path / "gate"
    futures = [executor.submit(tasks.wait_for_file, str(gate), n) for n in range(2)]
    for submit in (executor.submit, executor.options(priority=1).submit):
        with pytest.raises(disttask.QueueFull, match="2 tasks are unfinished, as many as max_pending allows"):
            submit(tasks.add, 1, 1)
    with pytest.raises(queue.Full):
        executor.submit(lambda: gate)  # by the way of what is pickled whole
    gate.touch()
    assert [future.result(timeout=10) for future in futures] == [0, 1]
    assert executor.submit(tasks.add, 1, 1).result(timeout=10) == 2
    assert executor.status()["totals"]["submitted"] == 3


def test_nobody_looks_and_there_is_room_all_the_same(make_executor):
    """Tasks that have ended take no room, though nobody has asked for their results."""
    executor = make_executor(2, max_pending=4, on_full="raise")
    done = 0
    deadline = time.monotonic() + 20
    while done < 200 and time.monotonic() < deadline:
        try:
            executor.submit(tasks.add, done, 1)
            done += 1
        except disttask.QueueFull:
            time.sleep(0.001)
    assert done == 200


def test_never_more_than_it_allows(make_executor):
    executor = make_executor(2, max_pending=10)
    most, stop = [0], threading.Event()

    def watch():
        while not stop.is_set():
            most[0] = max(most[0], unfinished(executor))

    watcher = threading.Thread(target=watch)
    watcher.start()

    def produce(first):
        return [executor.submit(tasks.add, first + n, 1) for n in range(300)]

    producers = [in_thread(lambda first=first: produce(first)) for first in range(0, 2400, 300)]
    for producer in producers:
        producer.join(60)
    stop.set()
    watcher.join()
    values = [future.result(timeout=10) for producer in producers for future in producer.outcome]
    assert sorted(values) == list(range(1, 2401))
    assert 1 <= most[0] <= 10


def test_a_cancelled_task_makes_room(make_executor, tmp_path):
    executor = make_executor(1, max_pending=2)
    gate = tmp_path / "gate"
    executor.submit(tasks.wait_for_file, str(gate))
    wait_busy(executor)
    second = executor.submit(tasks.add, 1)
    late = in_thread(lambda: executor.submit(tasks.add, 1, 1))
    wait_queuing(executor)
    assert late.outcome is None
    assert second.cancel()
    late.join(10)
    gate.touch()
    assert late.outcome.result(timeout=10) == 2


def test_a_dead_worker_makes_room(make_executor):
    executor = make_executor(1, max_pending=1)
    victim = executor.submit(tasks.sleep, 60)
    (pid,) = wait_busy(executor)
    late = in_thread(lambda: executor.submit(tasks.add, 1, 1))
    wait_queuing(executor)
    os.kill(pid, signal.SIGKILL)
    late.join(10)
    assert late.outcome.result(timeout=10) == 2
    assert isinstance(victim.exception(timeout=10), disttask.WorkerCrashed)


def test_a_shutdown_wakes_who_waits(make_executor, tmp_path):
    executor = make_executor(1, max_pending=1)
    running = executor.submit(tasks.wait_for_file, str(tmp_path / "gate"), "done")
    late = in_thread(lambda: executor.submit(tasks.add, 1, 1))
    wait_queuing(executor)
    executor.shutdown(wait=False)
    late.join(10)
    assert isinstance(late.outcome, RuntimeError)
    assert "after shutdown" in str(late.outcome)
    (tmp_path / "gate").touch()
    assert running.result(timeout=10) == "done"


def test_a_broken_pool_wakes_who_waits(make_executor):
    executor = make_executor(1, max_pending=1, executable="/bin/false")
    outcomes = [in_thread(lambda: executor.submit(tasks.add, 1, 1)) for _ in range(3)]
    for thread in outcomes:
        thread.join(60)
        outcome = thread.outcome
        if isinstance(outcome, disttask.Future):
            outcome = outcome.exception(timeout=10)
        assert isinstance(outcome, disttask.PoolBroken)


def test_ctrl_c_ends_the_wait(run_script):
    source = """
import os, signal, threading, time
import disttask, tasks
executor = disttask.Executor(1, max_pending=1)
executor.submit(tasks.sleep, 600)

def interrupt():
    while not executor._pool.queuing:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    executor.submit(tasks.add, 1)
except KeyboardInterrupt:
    print("interrupted")
executor.__exit__(KeyboardInterrupt, None, None)
"""
    assert run_script(source).out == "interrupted\n"


def test_a_callback_may_submit(make_executor, tmp_path):
    """It runs on the thread that delivers; the end of tasks must not depend on that."""
    executor = make_executor(1, max_pending=1)
    followers = []
    first = executor.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    first.add_done_callback(lambda _: followers.append(executor.submit(tasks.add, 1, 1)))
    (tmp_path / "gate").touch()
    wait_until(lambda: followers, 10)
    assert followers[0].result(timeout=10) == 2


def test_map_has_bounds_of_its_own(make_executor):
    executor = make_executor(2, max_pending=2, on_full="raise")
    for way in ({}, {"chunksize": 1}, {"ordered": False}):
        assert sum(executor.map(tasks.double, range(500), **way)) == sum(range(0, 1000, 2))


def test_settings_are_checked():
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_pending must be >= 1, not"):
            disttask.Executor(1, max_pending=wrong)
    for wrong in (2.5, "3", True):
        with pytest.raises(TypeError, match="max_pending must be an int or None"):
            disttask.Executor(1, max_pending=wrong)
    with pytest.raises(ValueError, match='on_full must be "block" or "raise"'):
        disttask.Executor(1, max_pending=1, on_full="drop")
