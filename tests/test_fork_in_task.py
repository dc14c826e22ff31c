"""`os.fork()` inside a task: the child has its own copy of everything, and waits for no lock of its parent's."""

import pickle

import numpy as np
import pytest

import disttask
import fork_tasks
import start_tasks
import tasks
from helpers import assert_usable, wait_idle

BYTES = 200_000


def ones(count=BYTES):
    return pickle.PickleBuffer(bytearray([1]) * count)


@pytest.fixture
def executor(make_executor):
    executor = make_executor(1)
    wait_idle(executor)
    return executor


def test_what_a_child_writes_is_not_its_parents(executor):
    assert executor.submit(fork_tasks.written_by_the_child, ones()).result(timeout=20) == (True, 1, 1, BYTES)


def test_each_child_has_what_its_parent_had_at_the_fork(executor):
    assert executor.submit(fork_tasks.written_by_both, ones(), 5).result(timeout=20) == (10, 1)


def test_a_child_that_outlives_its_task_and_an_argument_in_the_same_place(executor, tmp_path):
    path = tmp_path / "log"
    assert executor.submit(fork_tasks.leave_a_child_with, ones(), path).result(timeout=20) == 1
    threes = pickle.PickleBuffer(bytearray([3]) * BYTES)
    assert executor.submit(fork_tasks.look_while, threes, path).result(timeout=20) is True
    assert tasks.lines(path) == ["child sees 1 1", "child has written"]


def test_a_child_that_outlives_its_worker(executor, tmp_path):
    path = tmp_path / "log"
    executor.submit(fork_tasks.leave_a_child_with, ones(), path).result(timeout=20)
    assert type(executor.submit(tasks.kill_myself).exception(timeout=20)) is disttask.WorkerCrashed
    threes = pickle.PickleBuffer(bytearray([3]) * BYTES)
    assert executor.submit(fork_tasks.look_while, threes, path).result(timeout=20) is True
    assert tasks.lines(path) == ["child sees 1 1", "child has written"]


def test_the_memory_of_arguments_is_used_again(run_script):
    """Each task forks; far more goes through than there is room for, and nothing of it stays."""
    source = """
import disttask, fork_tasks, numpy as np
from helpers import wait_until
from test_large import shared_bytes
with disttask.Executor(1) as executor:
    for number in range(1, 31):
        size = (500_000, 2_000_000)[number % 2]
        array = np.full(size, float(number))
        assert executor.submit(fork_tasks.fork_and_sum, array).result(timeout=30) == size * number
    print(shared_bytes() < 200 * 2**20)
    del array
    wait_until(lambda: shared_bytes() < 2**20, 15, "an idle pool gives its memory back")
"""
    assert run_script(source, timeout=60).out == "True\n"


def test_a_thread_of_the_task_writes_during_the_fork(executor):
    for _ in range(10):
        array = np.zeros(1_000_000, np.int32)
        assert executor.submit(fork_tasks.counted_by_a_thread, array, 40).result(timeout=30) is True


def test_two_threads_of_a_task_fork(executor):
    array = np.ones(1_000_000)
    assert executor.submit(fork_tasks.two_threads_fork, array).result(timeout=30) == ([True, True], 1e6)


def test_children_of_children(executor):
    assert executor.submit(fork_tasks.grandchild, np.ones(100_000)).result(timeout=30) is True


def test_objects_that_were_put(executor):
    shared = executor.put(np.ones(BYTES, np.uint8))
    for _ in range(2):
        result = executor.submit(fork_tasks.written_by_the_child, shared).result(timeout=20)
        assert result == (True, 1, 1, BYTES)


def test_programs_that_a_task_starts_cost_no_copies(executor):
    assert executor.submit(fork_tasks.start_a_program, np.ones(100_000)).result(timeout=20) == (0, 0, 1.0)


def test_multiprocessing_in_a_task(executor):
    future = executor.submit(fork_tasks.with_multiprocessing, np.ones(100_000))
    firsts, total, array = future.result(timeout=30)
    assert (firsts, total, array.sum()) == ([2.0, 2.0, 8.0], 100_000, 100_000)


def test_a_nested_task_that_forks(executor):
    future = executor.submit(fork_tasks.fork_in_a_nested_task, np.ones(100_000))
    assert future.result(timeout=30) == ((True, 1, 1), True, 100_000)


def test_a_fork_while_the_call_is_loaded(executor):
    ends = np.ones(100_000), np.ones(100_000)
    future = executor.submit(fork_tasks.load_and_fork, ends[0], fork_tasks.ForksWhenLoaded(), ends[1])
    assert future.result(timeout=30) == (100_000, 100_000)


def test_no_memory_for_copies(executor):
    future = executor.submit(fork_tasks.fork_without_memory, np.ones(100_000))
    assert future.result(timeout=30) == (0, True, 1, 100_000), "none at the first fork, at the second there were"
    assert "MemoryError: no memory for copies of large arrays" in future.output("stderr")
    assert_usable(executor)


def test_a_descriptor_that_the_task_has_closed(executor):
    future = executor.submit(fork_tasks.fork_with_a_closed_descriptor, np.ones(100_000))
    assert future.result(timeout=30) == (True, 0, 100_000)
    assert "no memory for copies" in future.output("stderr")
    assert executor.submit(tasks.sum_of, np.ones(100_000)).result(timeout=20) == 100_000


def test_memory_without_memfds(make_executor, monkeypatch):
    monkeypatch.setenv("DISTTASK_NO_MEMFD", "1")
    executor = make_executor(1)
    for _ in range(3):
        result = executor.submit(fork_tasks.written_by_the_child, ones()).result(timeout=20)
        assert result == (True, 1, 1, BYTES)


@pytest.mark.parametrize("how", ["print", "flush", "log", "threads"])
def test_a_child_prints_while_a_thread_of_its_parent_does(executor, how):
    assert executor.submit(fork_tasks.forks_while_a_thread_prints, 40, how).result(timeout=60) == 40


def test_a_child_needs_what_a_thread_of_its_parent_imports(make_executor):
    assert make_executor(1).submit(fork_tasks.forks_while_a_thread_submits).result(timeout=30)


def test_a_fork_that_waits_for_the_import_of_logging_says_nothing(make_executor):
    """`logging` unlocks after a fork what it has locked before: nothing, where it came in between."""
    future = make_executor(1).submit(start_tasks.fork_after_a_late_import)
    assert future.result(timeout=30) == (False, True)
    assert future.output() == ""


def test_a_child_of_a_host_needs_what_a_thread_of_its_parent_imports(run_script):
    source = """
import disttask, fork_tasks

executor = disttask.Executor(1)
print(fork_tasks.forks_while_a_thread_imports("cloudpickle", lambda: executor.submit(lambda: 1).result()))
executor.shutdown()
"""
    ended = run_script(source, timeout=40)
    assert (ended.out, ended.err) == ("True\n", "")


def test_half_a_line_is_not_printed_twice(executor):
    future = executor.submit(fork_tasks.half_a_line)
    future.result(timeout=20)
    assert future.output() == "child\nbegun ended\n"


def test_a_child_asks_for_a_nested_future_of_another_thread(executor):
    assert executor.submit(fork_tasks.futures_of_a_thread, 3).result(timeout=30) == (20, 1)


def test_a_worker_that_dies_after_its_task_has_forked(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.options(retries=1).submit(fork_tasks.fork_and_die_once, np.ones(100_000), path)
    assert future.result(timeout=30) == 100_000
    assert len(tasks.lines(path)) == 2
    assert_usable(executor)


def test_forks_of_a_host_copy_a_result_once(executor):
    held = [executor.submit(tasks.array_filled, 1_000_000, 1).result(timeout=20)]
    before = fork_tasks.private_ranges()

    def write():
        right = (held[0] == 1).all()
        held[0][:] = 2
        return right

    def write_again():
        right = held[0][0] == 5 and (held[0][1:] == 1).all()
        held[0][:] = 2
        return right

    assert fork_tasks.in_child(write)
    assert fork_tasks.private_ranges() > before
    held[0][0] = 5
    assert fork_tasks.in_child(write_again)
    assert held[0][0] == 5
    assert (held[0][1:] == 1).all()
    place = held.pop().ctypes.data
    assert fork_tasks.private_ranges() == before
    again = [executor.submit(tasks.array_filled, 1_000_000, 3 + n).result(timeout=20) for n in range(4)]
    assert place in [one.ctypes.data for one in again], "the place is used again"
    assert all((one == 3 + n).all() for n, one in enumerate(again))


@pytest.mark.parametrize("chunksize", [1, 10])
def test_a_child_that_returns_from_an_item_of_map_runs_no_other(executor, tmp_path, chunksize):
    path = tmp_path / "log"
    assert list(executor.map(fork_tasks.fork_at, [(path, n) for n in range(10)], chunksize=chunksize)) == list(
        range(10)
    )
    assert sorted(tasks.lines(path)) == sorted(map(str, range(10)))


def test_a_child_leaves_though_signals_raise(executor, tmp_path):
    path = tmp_path / "log"
    for _ in range(30):
        assert executor.submit(fork_tasks.fork_under_interrupts, path).result(timeout=20) > 0
    assert tasks.lines(path) == ["forked"] * 30
