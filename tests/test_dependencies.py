"""Futures as arguments: the task waits, and its worker gets the values."""

import concurrent.futures as cf
import os
import pickle
import signal
import sys
import threading

import numpy as np
import pytest

import disttask
from helpers import assert_usable, wait_busy, wait_idle, wait_until, workers_in
from tasks import add, fail, fail_once, lines, log, pid_of_worker, sleep, wait_for_file

NODES = 10_000


def arange(count):
    return np.arange(count)


def total(array, *_):
    return int(array.sum())


def double(array):
    """Writes to what it was given."""
    array *= 2
    return int(array.sum())


def same(value):
    return value


def are_one(one, other):
    return one is other


class Recorded:
    """Writes down where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return _record, (self.path,)


def _record(path):
    log(path, os.getpid())
    return Recorded(path)


def path_of(recorded):
    return recorded.path


def logged(path, value, *_):
    log(path, value)
    return value


# --- values -----------------------------------------------------------------------------------------------------------


def test_a_task_gets_the_values_of_the_tasks_that_it_is_given(executor):
    three = executor.submit(add, 1, 2)
    four = executor.submit(add, three, 1)
    assert executor.submit(add, three, b=four).result(10) == 7
    assert executor.options(priority=3).submit(add, four, 1).result(10) == 5
    assert executor.submit(lambda x, y=0: (x, y), three, y=four).result(10) == (3, 4)


def test_wherever_in_the_arguments_a_future_stands(executor):
    slow = executor.submit(sleep, 0.2, "slow")
    one = executor.submit(add, 0)
    nested = executor.submit(same, {"list": [slow, (one, {slow})], "x": slow})
    assert nested.result(10) == {"list": ["slow", (1, {"slow"})], "x": "slow"}
    assert executor.submit(are_one, slow, slow).result(10), "one future is one object"


def test_values_of_the_default_executor(run_script):
    run_script("""
import operator
import disttask

one = disttask.submit(abs, -1)
assert disttask.submit(operator.add, one, one).result(10) == 2
bad = disttask.submit(int, "x")
try:
    disttask.submit(operator.add, bad, one).result(10)
except disttask.DependencyFailed as error:
    assert isinstance(error.__cause__, ValueError)
else:
    raise AssertionError
assert [record["status"] for record in disttask.get_results()] == ["succeeded", "succeeded", "failed", "failed"]
""")


def test_the_host_does_not_unpickle_them(executor, tmp_path):
    path = str(tmp_path / "where")
    made = executor.submit(Recorded, path)
    assert executor.submit(path_of, made).result(10) == path
    assert lines(path)
    assert str(os.getpid()) not in lines(path)


def test_large_values_go_from_worker_to_worker(executor):
    array = executor.submit(arange, 1_000_000)
    futures = [executor.submit(total, array, number) for number in range(20)]
    assert [future.result(20) for future in futures] == [499_999_500_000] * 20


@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
def test_nobody_sees_what_another_has_written(executor, size):
    array = executor.submit(arange, size)
    plain = size * (size - 1) // 2
    doubled = [executor.submit(double, array) for _ in range(4)]
    assert [future.result(10) for future in doubled] == [2 * plain] * 4
    mine = array.result(10)
    mine *= 3
    assert executor.submit(total, array).result(10) == 3 * plain
    assert array.result() is mine


def test_what_the_host_writes_does_not_reach_a_task_that_was_given_the_future_before(executor, tmp_path):
    gate = tmp_path / "gate"
    array = executor.submit(arange, 100_000)
    waiting = executor.submit(total, array, executor.submit(wait_for_file, gate))
    mine = array.result(10)
    mine[:] = 0
    gate.touch()
    assert waiting.result(10) == 4_999_950_000


def test_a_value_that_was_taken_here_goes_as_it_is_now(executor):
    array = executor.submit(arange, 100_000)
    array.result(10)[:] = 1
    assert executor.submit(total, array).result(10) == 100_000


def test_nobody_needs_to_hold_the_futures(executor):
    assert executor.submit(add, executor.submit(add, executor.submit(sleep, 0.1, 1), 1), 1).result(10) == 3


def test_waiting_and_callbacks_see_dependants(executor):
    slow = executor.submit(sleep, 0.1, 1)
    dependants = [executor.submit(add, slow, number) for number in range(20)]
    called = threading.Event()
    dependants[-1].add_done_callback(lambda _: called.set())
    assert sorted(future.result() for future in cf.as_completed(dependants, 10)) == list(range(1, 21))
    assert called.wait(5)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_whoever_needs_a_failed_task_fails_with_the_cause(executor):
    failed = executor.submit(fail, KeyError, "why")
    near = executor.submit(add, failed)
    far = executor.submit(add, 1, b=executor.submit(add, near))
    for future in near, far, executor.submit(same, [failed]):
        error = future.exception(10)
        assert isinstance(error, disttask.DependencyFailed)
        assert isinstance(error.__cause__, KeyError)
        assert "was not run" in str(error)
        assert "needs" in str(error)
        assert isinstance(error.__cause__.__cause__, disttask.RemoteTraceback)
    assert isinstance(failed.exception(), KeyError)
    late = executor.submit(add, failed).exception(10)  # its bytes may be gone: the exception is known here
    assert isinstance(late, disttask.DependencyFailed)
    assert isinstance(late.__cause__, KeyError)
    assert executor.status()["totals"]["failed"] >= 4
    assert_usable(executor, 10)


def test_a_failed_task_whose_exception_was_taken_here(executor):
    failed = executor.submit(fail, ZeroDivisionError)
    assert isinstance(failed.exception(10), ZeroDivisionError)
    error = executor.submit(add, failed).exception(10)
    assert isinstance(error, disttask.DependencyFailed)
    assert error.__cause__ is failed.exception()


def test_whoever_needs_what_cannot_be_sent(executor):
    unsent = executor.submit(same, threading.Lock())
    error = executor.submit(add, unsent).exception(10)
    assert isinstance(error, disttask.DependencyFailed)
    assert isinstance(error.__cause__, disttask.SerializationError)


def test_a_crash_and_a_timeout_are_causes_as_well(executor):
    crashed = executor.submit(os._exit, 3)
    late = executor.options(timeout=0.2).submit(sleep, 60)
    assert isinstance(executor.submit(add, crashed).exception(10).__cause__, disttask.WorkerCrashed)
    assert isinstance(executor.submit(add, late).exception(10).__cause__, disttask.TaskTimeout)


def test_cancelling_what_others_need_and_what_waits(make_executor, tmp_path):
    executor = make_executor(1)
    gate = tmp_path / "gate"
    blocker = executor.submit(wait_for_file, gate, 1)
    wait_busy(executor)
    needed = executor.submit(add, 1)
    dependant = executor.submit(add, needed)
    waiting = executor.submit(add, blocker)
    assert not waiting.running()
    assert not waiting.done()
    assert waiting.cancel()
    assert waiting.cancelled()
    assert needed.cancel()
    error = dependant.exception(10)
    assert isinstance(error, disttask.DependencyFailed)
    assert isinstance(error.__cause__, cf.CancelledError)
    gate.touch()
    assert blocker.result(10) == 1
    assert_usable(executor, 10)


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_shutdown_leaves_no_future_hanging(make_executor, cancel_futures):
    executor = make_executor(2)
    slow = executor.submit(sleep, 0.3, 1)
    wait_busy(executor)
    waiting = [executor.submit(add, slow, number) for number in range(50)]
    last = executor.submit(sum, waiting)
    executor.shutdown(wait=True, cancel_futures=cancel_futures)
    assert slow.result(0) == 1
    if cancel_futures:
        assert all(future.cancelled() for future in [*waiting, last])
    else:
        assert last.result(0) == sum(range(1, 51))


def test_a_broken_pool_leaves_no_future_hanging(make_executor, tmp_path):
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\nexit 1\n")
    wrong.chmod(0o755)
    executor = make_executor(1, executable=wrong)
    future = executor.submit(add, 1)
    dependants = [executor.submit(add, future, number) for number in range(100)]
    assert all(isinstance(dependant.exception(10), disttask.PoolBroken) for dependant in dependants)


def test_futures_that_no_task_of_this_executor_stands_behind(make_executor, executor):
    other = make_executor(1)
    foreign = other.submit(add, 1)
    error = executor.submit(add, foreign).exception(10)
    assert isinstance(error, disttask.SerializationError)
    assert "another Executor" in str(error)
    error = executor.submit(add, cf.Future()).exception(10)
    assert isinstance(error, disttask.SerializationError)
    assert "future.result()" in str(error)
    with pytest.raises(TypeError, match=r"future\.result\(\)"):
        pickle.dumps(foreign)
    with pytest.raises(disttask.SerializationError, match=r"map takes no futures.*other tasks' values\.$"):
        list(executor.map(add, [executor.submit(add, 1)]))
    with pytest.raises(disttask.SerializationError, match=r"future\.result\(\)"):
        disttask.serialize_task(add, foreign)
    assert_usable(executor, 10)


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["small", "large"])
def test_the_death_of_the_producer_loses_nothing(executor, size):
    array = executor.submit(arange, size)
    wait_until(array.done)
    for pid in wait_idle(executor):
        os.kill(pid, signal.SIGKILL)
    futures = [executor.submit(total, array) for _ in range(8)]
    assert [future.result(20) for future in futures] == [size * (size - 1) // 2] * 8


def test_a_retry_is_given_the_same_values(executor, tmp_path):
    runs, path = tmp_path / "runs", tmp_path / "deaths"
    needed = executor.submit(logged, runs, path)
    retried = executor.options(retries=2).submit(fail_once, needed, "kill")
    assert retried.result(20) == "survived"
    assert len(lines(runs)) == 1
    assert len(lines(path)) == 2


def test_kills_in_the_middle_of_a_graph(make_executor):
    executor = make_executor(2)
    careful = executor.options(retries=50, backoff=0)
    stop, killed = threading.Event(), []

    def kill():
        done = 0
        while not stop.wait(0.05):
            before, done = done, executor.status()["totals"]["succeeded"]
            # Not those that still start: of too many deaths of these the pool concludes that it is broken, and rightly.
            # And nobody before something was done since the last kill, however slow the machine is.
            for worker in workers_in(executor, "busy")[: done > before]:
                os.kill(worker["pid"], signal.SIGKILL)
                killed.append(worker["pid"])

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        while len(set(killed)) < 5:
            layer = [careful.submit(sleep, 0.001, number) for number in range(100)]
            for _ in range(5):
                layer = [careful.submit(add, layer[i], layer[i - 1]) for i in range(100)]
            assert careful.submit(sum, layer).result(60) == sum(range(100)) * 2**5
    finally:
        stop.set()
        killer.join()


# --- large graphs -----------------------------------------------------------------------------------------------------


def test_a_diamond(executor):
    top = executor.submit(sleep, 0.05, 1)
    middle = [executor.submit(add, top, number) for number in range(NODES)]
    assert executor.submit(sum, middle).result(60) == NODES + NODES * (NODES - 1) // 2


def test_a_chain(executor):
    assert sys.getrecursionlimit() < NODES
    future = executor.submit(sleep, 0.05, 0)
    for _ in range(NODES):
        future = executor.submit(add, future, 1)
    assert future.result(60) == NODES


def test_a_chain_that_fails_at_its_beginning(executor):
    future = executor.submit(fail, ValueError)
    futures = []
    for _ in range(NODES):
        future = executor.submit(add, future, 1)
        futures.append(future)
    assert isinstance(futures[-1].exception(30).__cause__, ValueError)
    assert isinstance(futures[NODES // 2].exception(30).__cause__, ValueError)


def test_a_fan_in_of_values_that_do_not_fit_the_ring_together(executor):
    parts = [executor.submit(bytes, 1000 + number % 7) for number in range(3000)]
    assert executor.submit(b"".join, parts).result(60) == bytes(sum(1000 + number % 7 for number in range(3000)))


def test_values_are_freed_when_nobody_needs_them(executor):
    def backing():
        """Bytes of shared memory that are in use here or in a worker, whoever has a descriptor of it."""
        blocks = {}
        for pid in [os.getpid(), *executor._pool.pids()]:
            for name in os.listdir(f"/proc/{pid}/fd"):
                try:
                    status = os.stat(f"/proc/{pid}/fd/{name}")
                    if "memfd:disttask-arena" in os.readlink(f"/proc/{pid}/fd/{name}"):
                        blocks[status.st_ino] = status.st_blocks * 512
                except OSError:
                    continue
        return sum(blocks.values())

    array = executor.submit(arange, 1_000_000)  # 8 MB
    for _ in range(100):
        array = executor.submit(np.copy, array)
    assert total(array.result(60)) == 499_999_500_000
    assert backing() < 300e6
    for _ in range(100):
        assert executor.submit(total, executor.put(np.ones(1_000_000, np.int64))).result(10) == 1_000_000
    assert backing() < 300e6


# --- put --------------------------------------------------------------------------------------------------------------


def test_put_is_for_many_tasks(executor):
    table = executor.put(np.arange(100_000))
    assert table.nbytes > 800_000
    assert "Ref" in repr(table)
    assert {executor.submit(total, table, number).result(10) for number in range(10)} == {4_999_950_000}
    assert executor.submit(lambda box: total(box[0]["x"]), [{"x": table}]).result(10) == 4_999_950_000
    assert list(executor.map(lambda ref, i: int(ref[i]), [table] * 20, range(20))) == list(range(20))


def test_a_put_object_is_the_same_for_every_task(executor):
    numbers = executor.put([1, 2, 3])
    assert {executor.submit(_pop, numbers).result(10) for _ in range(8)} == {3}
    array = executor.put(np.ones(100_000))
    assert {executor.submit(double, array).result(10) for _ in range(8)} == {200_000}


def _pop(numbers):
    return numbers.pop()


def test_what_cannot_change_is_loaded_once(make_executor):
    executor = make_executor(1)
    text = executor.put(("x" * 1000, (1, 2)))
    assert len({executor.submit(id, text).result(10) for _ in range(8)}) == 1


def test_put_survives_workers_and_lives_as_long_as_it_is_needed(make_executor):
    executor = make_executor(1)
    ref = executor.put(np.ones(100_000))
    assert executor.submit(total, ref).result(10) == 100_000
    os.kill(executor.submit(pid_of_worker).result(10), signal.SIGKILL)
    slow = executor.submit(sleep, 0.2)
    waiting = executor.submit(total, ref, slow)
    del ref
    assert waiting.result(10) == 100_000


def test_put_of_what_travels_by_value_or_not_at_all(executor, make_executor):
    ref = executor.put(lambda x: x + 1)
    assert executor.submit(lambda f: f(1), ref).result(10) == 2
    with pytest.raises(disttask.SerializationError, match="lock"):
        executor.put(threading.Lock())
    with pytest.raises(TypeError, match="its Executor"):
        pickle.dumps(ref)
    error = make_executor(1).submit(same, ref).exception(10)
    assert isinstance(error, disttask.SerializationError)
    assert "another Executor" in str(error)
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(same, ref)
