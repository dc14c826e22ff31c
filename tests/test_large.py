"""Large payloads stand in shared memory: writable, nobody else's, and given back."""

import gc
import os
import pickle
import resource

import numpy as np
import pytest

import disttask
import tasks

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


def test_memory_is_used_again_and_given_back(run_script):
    """In a process of its own: results of other tests may still be looked at in this one."""
    source = """
import disttask, numpy as np, tasks
from helpers import wait_until
from test_large import shared_bytes
array = np.ones(20 * 125_000)
with disttask.Executor(1) as executor:
    for _ in range(10):
        assert executor.submit(tasks.sum_of, array).result(timeout=30) == 20 * 125_000
    print(shared_bytes() < 60 * 2**20)
    wait_until(lambda: shared_bytes() < 2**20, 15, "an idle pool gives its memory back")
"""
    assert run_script(source, timeout=40).out == "True\n"


def test_a_forked_child_drops_what_is_its_parents(run_script):
    source = """
import gc, os, mmap, disttask, tasks
executor = disttask.Executor(1)
data = bytes(200_000)
def closure(): return len(data)
print(executor.submit(closure).result(timeout=20))
def in_child():
    global executor
    maps = [mmap.mmap(-1, 4096) for _ in range(200)]
    try:
        executor.submit(closure)
    except disttask.ForkedPoolError:
        print("refused", flush=True)
    executor = None
    gc.collect()
    for one in maps:
        one[0] = 1
    os._exit(0)
for shut_down in (False, True):
    if shut_down:
        executor.shutdown()
    child = os.fork()
    if child == 0:
        in_child()
    print(os.waitpid(child, 0)[1])
"""
    assert run_script(source).out == "200000\nrefused\n0\nrefused\n0\n"


def test_functions_that_nobody_can_call_any_more_are_forgotten(make_executor):
    executor = make_executor(1)
    pid = executor.submit(tasks.pid_of_worker).result(timeout=10)
    for _ in range(3):
        for _ in range(40):
            data = os.urandom(1_000_000)
            assert executor.submit(lambda data=data: len(data)).result(timeout=10) == 1_000_000
    with open(f"/proc/{pid}/statm") as statm:
        assert int(statm.read().split()[1]) * 4096 < 200 * 2**20, "not 120 MB of pickles, and as much of objects"


def test_a_result_that_cannot_be_received_is_charged(run_script, tmp_path):
    """Out of descriptors, the host cannot map what the worker has answered: the task ran, and runs once."""
    source = f"""
import os, resource, disttask, tasks
with disttask.Executor(1) as executor:
    executor.submit(tasks.add, 1, 1).result(timeout=20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    future = executor.submit(tasks.run_twice, {str(tmp_path / "runs")!r})
    exc = future.exception(timeout=20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(type(exc).__name__)
    print(executor.submit(tasks.add, 1, 1).result(timeout=20))
"""
    assert run_script(source, timeout=60).out == "WorkerCrashed\n2\n"
    assert len(tasks.lines(tmp_path / "runs")) == 1


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


ROOM = 500 << 20


def few_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))


def test_a_worker_without_addresses_for_a_payload_says_so_and_goes_on() -> None:
    """Before, it died of that, and each retry's worker as well."""
    large = bytearray(500 << 20)
    with disttask.Executor(1, initializer=few_addresses) as executor:
        pid = executor.submit(os.getpid).result()
        with pytest.raises(MemoryError, match=r"no addresses left for an argument of 5242\d{5} bytes: .*RLIMIT_AS"):
            executor.submit(len, pickle.PickleBuffer(large)).result()
        kept = executor.put(pickle.PickleBuffer(large))
        with pytest.raises(MemoryError, match=r"no addresses left for an argument of 5242\d{5} bytes"):
            executor.submit(len, kept).result()
        with pytest.raises(MemoryError, match="no addresses left"):
            list(executor.map(len, [pickle.PickleBuffer(large)]))
        with pytest.raises(MemoryError, match=r"there is no memory for a result of \d+ bytes"):
            executor.submit(np.ones, 250 * MB).result()
        small = executor.submit(len, bytearray(5 << 20))
        assert (small.result(), executor.submit(os.getpid).result()) == (5 << 20, pid)
