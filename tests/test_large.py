"""Large payloads stand in shared memory: writable, nobody else's, and given back."""

import gc
import os
import pickle

import numpy as np
import pytest

import disttask
import tasks
from helpers import wait_until

MB = 125_000
"""Eight-byte numbers in a megabyte."""


def shared_bytes():
    """Pages of memory files that this process has mapped and touched, in bytes."""
    total = 0
    with open("/proc/self/smaps") as maps:
        counts = False
        for line in maps:
            if "memfd:disttask-arena" in line:
                counts = True
            elif line.startswith("Rss:") and counts:
                total += int(line.split()[1]) * 1024
                counts = False
    return total


@pytest.mark.parametrize("megabytes", [0.01, 0.1, 1, 30])
def test_arrays_arrive_whole_and_writable(executor, megabytes):
    array = np.arange(int(megabytes * MB), dtype="f8")
    total, returned = executor.submit(tasks.sum_and_return, array).result(timeout=30)
    assert total == array.sum()
    assert np.array_equal(returned, array)
    returned[0] = 99  # ours alone
    assert array[0] == 0
    assert executor.submit(tasks.write_into, array).result(timeout=30) == -1.0
    assert array[0] == 0


def test_no_two_results_share_memory_and_none_changes_later(executor):
    held = [executor.submit(tasks.array_filled, MB, n) for n in range(20)]
    arrays = [future.result(timeout=30) for future in held]
    for n, array in enumerate(arrays):
        assert (array == n).all()
        array[:] = -n
    again = [executor.submit(tasks.array_filled, MB, 100 + n).result(timeout=30) for n in range(20)]
    assert all((array == -n).all() for n, array in enumerate(arrays))
    assert all((array == 100 + n).all() for n, array in enumerate(again))


def test_a_result_outlives_its_worker_its_future_and_the_executor():
    with disttask.Executor(2) as executor:
        array = executor.submit(tasks.array_filled, MB, 7).result(timeout=30)
        for pid in [worker["pid"] for worker in executor.status()["workers"]]:
            os.kill(pid, 9)
        assert executor.submit(tasks.add, 1, 1).result(timeout=30) == 2
    gc.collect()
    assert (array == 7).all()
    array += 1
    assert (array == 8).all()


def test_an_argument_that_a_task_keeps_is_not_overwritten(make_executor):
    executor = make_executor(1)
    executor.submit(tasks.keep, np.full(MB, 1.0)).result(timeout=30)
    for n in range(2, 12):
        assert executor.submit(tasks.sum_of, np.full(MB, float(n))).result(timeout=30) == MB * n
    assert executor.submit(tasks.kept_is_all, 1.0).result(timeout=30) is True


def test_a_retry_sees_the_arguments_as_they_were(executor, tmp_path):
    array = np.zeros(MB)
    submit = executor.options(retries=5).submit
    assert submit(tasks.write_and_die_once, array, str(tmp_path / "runs")).result(timeout=30) == 0.0


def test_a_result_by_id_is_loaded_anew_each_time(run_script):
    source = """
import disttask, tasks
task_id = disttask.submit(tasks.array_filled, 125_000, 5).task_id
for _ in range(2):
    (record,) = disttask.get_results([task_id], timeout=30)
    print((record["result"] == 5).all())
    record["result"][:] = 0
"""
    assert run_script(source).out == "True\nTrue\n"


def test_submit_waits_when_the_memory_for_arguments_is_full(make_executor, monkeypatch, tmp_path):
    from disttask import _executor

    monkeypatch.setattr(_executor, "_arena_bytes", lambda: 10 * 2**20)
    executor = make_executor(2)
    futures = [executor.submit(tasks.sum_of, np.full(MB // 2, float(n))) for n in range(100)]
    assert [future.result(timeout=30) for future in futures] == [MB // 2 * float(n) for n in range(100)]
    with pytest.raises(disttask.SerializationError, match="at most"):
        executor.submit(tasks.sum_of, np.zeros(11 * MB)).result(timeout=30)


def test_memory_is_used_again_and_given_back(make_executor):
    executor = make_executor(1)
    array = np.ones(20 * MB)
    for _ in range(10):
        assert executor.submit(tasks.sum_of, array).result(timeout=30) == 20 * MB
    assert shared_bytes() < 100 * 2**20, "one place is used again and again"
    wait_until(lambda: shared_bytes() < 2**20, 15, "an idle pool gives its memory back")


def test_a_hundred_buffers_in_one_argument(executor):
    arrays = [np.full(5000, float(n)) for n in range(100)]
    assert executor.submit(tasks.sums, arrays).result(timeout=30) == [5000.0 * n for n in range(100)]


def test_a_fork_does_not_end_the_lease_of_its_parent(executor):
    array = executor.submit(tasks.array_filled, MB, 3).result(timeout=30)
    child = os.fork()
    if child == 0:
        del array
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    for n in range(10):
        executor.submit(tasks.array_filled, MB, 50 + n).result(timeout=30)
    assert (array == 3).all()


def test_read_only_buffers_stay_so(executor):
    data = pickle.PickleBuffer(b"x" * 100_000)
    assert executor.submit(tasks.is_readonly, data).result(timeout=30) is True
