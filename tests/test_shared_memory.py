"""Memory for arguments that is full and stays so; arrays of results in a forked child."""

import contextlib
import os
import signal
import threading

import numpy as np
import pytest

import disttask
import tasks
from helpers import assert_usable, wait_busy

MB = 125_000
"""Eight-byte numbers in a megabyte."""


@pytest.fixture
def small_room(monkeypatch):
    """Executors have 10 MiB for arguments, and wait for half a second when nothing will free any."""
    from disttask import _executor

    monkeypatch.setattr(_executor, "_arena_bytes", lambda: 10 * 2**20)
    monkeypatch.setattr(_executor, "_ROOM_SECONDS", 0.5)


def fill(executor, function, *more):
    """Submit a megabyte each, until there is no room."""
    return [executor.submit(function, np.ones(MB), *more) for _ in range(20)]


def test_arguments_that_workers_keep_end_in_an_error(small_room, make_executor):
    executor = make_executor(1)
    with pytest.raises(disttask.SerializationError, match=r"of tasks that have ended.*Have tasks copy") as caught:
        fill(executor, tasks.keep_all)
    assert str(10 * 2**20) in str(caught.value)
    assert_usable(executor)
    assert executor.submit(tasks.let_go).result(timeout=10) > 5
    assert executor.submit(tasks.sum_of, np.ones(MB)).result(timeout=10) == MB


def test_a_worker_that_is_killed_keeps_nothing(small_room, make_executor):
    executor = make_executor(1)
    with pytest.raises(disttask.SerializationError, match="Have tasks copy"):
        fill(executor, tasks.keep_all)
    (worker,) = executor.status()["workers"]
    with pytest.raises(disttask.WorkerCrashed):
        executor.submit(tasks.kill_myself).result(timeout=10)
    assert [future.result(timeout=10) for future in [executor.submit(tasks.sum_of, np.ones(MB))]] == [MB]
    assert executor.status()["workers"][0]["pid"] != worker["pid"]


def test_submit_waits_for_tasks_that_are_at_work(small_room, make_executor):
    executor = make_executor(1)
    futures = fill(executor, tasks.second_of, 0.15)
    assert [future.result(timeout=30) for future in futures] == [0.15] * 20


def test_a_submit_that_waits_notices_a_shutdown(small_room, make_executor, tmp_path):
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, tmp_path / "go")
    wait_busy(executor)
    caught = []

    def submit_until_refused():
        try:
            fill(executor, tasks.sum_of)
        except RuntimeError as exc:
            caught.append(str(exc))

    thread = threading.Thread(target=submit_until_refused)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive(), "it waits for room"
    executor.shutdown(wait=False)
    thread.join(5)
    assert not thread.is_alive()
    assert "after shutdown" in caught[0]
    (tmp_path / "go").touch()


def test_a_submit_that_waits_can_be_interrupted(small_room, make_executor, tmp_path):
    executor = make_executor(1)
    executor.submit(tasks.wait_for_file, tmp_path / "go")
    wait_busy(executor)
    timer = threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fill(executor, tasks.sum_of)
    (tmp_path / "go").touch()
    assert_usable(executor)


FORK = """
import gc, os, sys, threading
import numpy as np
import disttask, tasks

def child_ended_with(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

executor = disttask.Executor(1)
"""


def test_a_forked_child_has_copies_of_results(run_script):
    """What the child writes is not the parent's, and what the parent lets go of is not the child's."""
    source = (
        FORK
        + """
array = executor.submit(tasks.array_filled, 1_000_000, 1).result(timeout=20)
has_written, may_look = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    array[:1000] = 7
    os.write(has_written[1], b"x")
    os.read(may_look[0], 1)
    grandchild = os.fork()
    right = (array[:1000] == 7).all() and (array[1000:] == 1).all()
    if grandchild == 0:
        os._exit(0 if right else 1)
    os._exit(0 if right and child_ended_with(grandchild) == 0 else 1)
os.read(has_written[0], 1)
print((array == 1).all())
place = array.ctypes.data
del array
others = [executor.submit(tasks.array_filled, 1_000_000, 5).result(timeout=20) for _ in range(3)]
print(any(other.ctypes.data == place for other in others))
os.write(may_look[1], b"x")
print(child_ended_with(child), all((other == 5).all() for other in others))
"""
    )
    assert run_script(source, timeout=40).out == "True\nTrue\n0 True\n"


def test_forks_while_other_threads_drop_results(run_script):
    source = (
        FORK
        + """
stop = threading.Event()
def fetch():
    while not stop.is_set():
        array = executor.submit(tasks.array_filled, 50_000, 3).result(timeout=20)
        assert (array == 3).all()
        del array
threads = [threading.Thread(target=fetch) for _ in range(2)]
for thread in threads:
    thread.start()
kept = [executor.submit(tasks.array_filled, 50_000, n).result(timeout=20) for n in range(20)]
wrong = 0
for _ in range(40):
    child = os.fork()
    if child == 0:
        right = all((array == n).all() for n, array in enumerate(kept))
        for array in kept:
            array[:] = -1
        os._exit(0 if right else 1)
    wrong += child_ended_with(child)
    wrong += not all((array == n).all() for n, array in enumerate(kept))
stop.set()
for thread in threads:
    thread.join()
print(wrong)
"""
    )
    assert run_script(source, timeout=60).out == "0\n"


def arena_bytes():
    """What the arenas of this process take of the memory."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:disttask-arena" in os.readlink(f"/proc/self/fd/{name}"):
                status = os.stat(f"/proc/self/fd/{name}")
                found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def test_what_is_put_takes_its_own_size_and_no_more(make_executor):
    executor = make_executor(1)
    array, before = np.ones(32 * MB), arena_bytes()
    ref = executor.put(array)
    assert [executor.submit(tasks.sum_of, ref).result(timeout=10) for _ in range(20)] == [32 * MB] * 20
    assert array.nbytes <= arena_bytes() - before < 1.5 * array.nbytes
