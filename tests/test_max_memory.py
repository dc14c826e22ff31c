"""`options(max_memory=...)` ends an attempt that takes more, and no other."""

import concurrent.futures as cf
import os
import signal

import pytest

import disttask
import memory_tasks
import tasks
from helpers import assert_usable, is_alive, wait_busy, wait_idle
from memory_tasks import MIB

ENDLESS = 2000
"""MiB: ended long before, or the test fails."""


@pytest.mark.parametrize(
    "call",
    [(memory_tasks.grow, ENDLESS), (memory_tasks.grow_in_c, 20_000_000)],
    ids=["step by step", "C call with the GIL"],
)
def test_the_worker_is_killed(executor, call):
    future = executor.options(max_memory=64 * MIB, tags=["a"]).submit(*call)
    (pid,) = wait_busy(executor)
    with pytest.raises(disttask.TaskMemoryExceeded) as caught:
        future.result(timeout=20)
    exc = caught.value
    assert isinstance(exc, MemoryError)
    assert isinstance(exc, disttask.DisttaskError)
    assert not isinstance(exc, (cf.BrokenExecutor, TimeoutError))
    assert (exc.task, exc.name, exc.tags, exc.attempts, exc.pid) == (1, call[0].__name__, ("a",), 1, pid)
    assert exc.memory_limit == 64 * MIB < exc.memory_growth
    assert exc.earlier_attempts == ()
    text = str(exc)
    assert text.startswith(f"task 1 ({call[0].__name__}) grew its worker by ")
    assert f" MiB, more than its max_memory of 64.0 MiB; worker pid {pid} was killed" in text
    assert not is_alive(pid)
    assert_usable(executor)


def test_the_error_survives_a_pickle(executor):
    exc = executor.options(max_memory=MIB).submit(memory_tasks.grow, ENDLESS).exception(timeout=20)
    (again,) = executor.submit(tasks.same, [exc]).result(timeout=20)
    assert type(again) is disttask.TaskMemoryExceeded
    assert (str(again), again.memory_limit, again.memory_growth) == (str(exc), MIB, exc.memory_growth)


def test_other_tasks_are_unharmed(executor):
    beside = executor.options(max_memory=100 * MIB).submit(tasks.sleep, 2, "beside")
    large = executor.options(max_memory=20 * MIB).submit(memory_tasks.grow, ENDLESS)
    assert type(large.exception(timeout=20)) is disttask.TaskMemoryExceeded
    assert not beside.done()
    assert beside.result(timeout=10) == "beside"


def test_what_waits_behind_is_run_once(make_executor, tmp_path):
    executor = make_executor(1)
    path = str(tmp_path / "log")
    for number in range(50):
        executor.submit(tasks.log, path, number).result(timeout=10)  # known to be short, and so sent ahead
    for turn in range(1, 4):
        large = executor.options(max_memory=20 * MIB).submit(memory_tasks.grow, ENDLESS, path, f"large{turn}")
        behind = [executor.submit(tasks.log, path, turn * 1000 + number) for number in range(200)]
        assert type(large.exception(timeout=20)) is disttask.TaskMemoryExceeded
        for future in behind:
            future.result(timeout=20)
    expected = [*range(50), *(turn * 1000 + number for turn in range(1, 4) for number in range(200))]
    assert sorted(tasks.lines(path)) == sorted(map(str, [*expected, "large1", "large2", "large3"]))
    assert_usable(executor)


def test_below_the_limit(executor):
    options = executor.options(max_memory=200 * MIB)
    assert [options.submit(memory_tasks.grow, 40).result(timeout=20) for _ in range(3)] == [40] * 3
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_what_was_there_before_is_not_held_against_it(make_executor):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    executor.submit(memory_tasks.keep, 150).result(timeout=20)
    options = executor.options(max_memory=60 * MIB)
    assert options.submit(memory_tasks.grow, 20).result(timeout=20) == 20
    assert options.submit(memory_tasks.replace, 120).result(timeout=20) == 120
    assert wait_idle(executor) == [pid]


def test_what_comes_after_is_not_blamed(make_executor):
    """Nothing is left of the limit once the task has ended."""
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    for _ in range(3):
        assert executor.options(max_memory=20 * MIB).submit(tasks.add, 1).result(timeout=10) == 2
        assert executor.submit(memory_tasks.grow, 60).result(timeout=20) == 60
    assert wait_idle(executor) == [pid]


def test_shared_memory_does_not_count(executor):
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(100 * MIB // 8)
    executor.submit(tasks.sum_of, array[:1000]).result(timeout=20)  # numpy is imported
    executor.submit(tasks.sum_of, array).result(timeout=20)
    options = executor.options(max_memory=60 * MIB)
    assert [options.submit(memory_tasks.touch_twice, array).result(timeout=20) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize(
    ("retry_on", "attempts"),
    [
        (None, 1),
        (ValueError, 1),
        (disttask.TaskTimeout, 1),
        (disttask.TaskMemoryExceeded, 3),
        (MemoryError, 3),
        ((ValueError, disttask.DisttaskError), 3),
    ],
)
def test_retries(make_executor, tmp_path, retry_on, attempts):
    executor = make_executor(1)
    path = tmp_path / "runs"
    options = executor.options(max_memory=10 * MIB, retries=2, retry_on=retry_on, backoff=0.01, crash_limit=1)
    exc = options.submit(memory_tasks.grow, ENDLESS, path).exception(timeout=30)
    assert type(exc) is disttask.TaskMemoryExceeded
    assert exc.attempts == attempts
    assert tasks.lines(path) == ["grow"] * attempts
    assert len(exc.earlier_attempts) == attempts - 1
    for number, line in enumerate(exc.earlier_attempts, 1):
        assert line.startswith(f"attempt {number}: worker pid ")
        assert "was killed, as its task grew its worker by " in line
    assert_usable(executor)


def test_items_of_map_one_by_one(executor):
    sizes = [4, 8, ENDLESS, 4, 12]
    options = executor.options(max_memory=50 * MIB)
    found = list(options.map(memory_tasks.grow, sizes, return_exceptions=True))
    assert found[:2] + found[3:] == [4, 8, 4, 12]
    assert type(found[2]) is disttask.TaskMemoryExceeded
    with pytest.raises(disttask.TaskMemoryExceeded):
        list(options.map(memory_tasks.grow, sizes))
    assert_usable(executor)


def test_as_options_of_the_function(executor):
    careful = disttask.task(max_memory=10 * MIB)(memory_tasks.grow)
    assert type(executor.submit(careful, ENDLESS).exception(timeout=20)) is disttask.TaskMemoryExceeded
    assert executor.options(max_memory=200 * MIB).submit(careful, 40).result(timeout=20) == 40


def test_the_default_executor(run_script):
    ended = run_script("""
import disttask, memory_tasks
limited = disttask.options(max_memory=10 * 2**20)
print(type(limited.submit(memory_tasks.grow, 2000).exception(20)).__name__)
text = disttask.serialize_task(memory_tasks.grow, 2000)
print(type(limited.submit(text).exception(20)).__name__)
""")
    assert ended.out == "TaskMemoryExceeded\n" * 2


def test_nested_tasks(executor):
    told = executor.submit(memory_tasks.submit_nested).result(timeout=20)
    assert told.startswith("max_memory: not for tasks that a task submits")


def test_a_nested_task_that_the_waiting_one_runs_counts(make_executor):
    executor = make_executor(1)
    future = executor.options(max_memory=20 * MIB).submit(memory_tasks.grow_nested, ENDLESS)
    assert type(future.exception(timeout=20)) is disttask.TaskMemoryExceeded
    assert_usable(executor)


def test_a_death_of_its_own_is_told_as_such(make_executor):
    executor = make_executor(1)
    future = executor.options(max_memory=500 * MIB).submit(memory_tasks.grow, ENDLESS)
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGKILL)
    exc = future.exception(timeout=20)
    assert type(exc) is disttask.WorkerCrashed
    assert (exc.memory_limit, exc.memory_growth) == (None, None)
    assert_usable(executor)


def test_with_a_timeout(executor):
    both = {"max_memory": 20 * MIB, "timeout": 30}
    assert type(executor.options(**both).submit(memory_tasks.grow, ENDLESS).exception(20)) is (
        disttask.TaskMemoryExceeded
    )
    both["timeout"] = 0.4
    assert type(executor.options(**both).submit(tasks.sleep, 3600).exception(20)) is disttask.TaskTimeout
    assert_usable(executor)


def test_many_at_once(executor):
    futures = [executor.options(max_memory=MIB).submit(memory_tasks.grow, ENDLESS) for _ in range(6)]
    assert {type(future.exception(timeout=30)) for future in futures} == {disttask.TaskMemoryExceeded}
    assert_usable(executor)


@pytest.mark.parametrize("limit", [8 * MIB, 2**63, 2**64, 2**80])
def test_short_tasks(executor, limit):
    """However many there are."""
    pids = wait_idle(executor)
    options = executor.options(max_memory=limit)
    assert [options.submit(tasks.add, number).result(timeout=10) for number in range(500)] == list(range(1, 501))
    futures = [options.submit(tasks.add, number) for number in range(500)]
    assert [future.result(timeout=10) for future in futures] == list(range(1, 501))
    assert wait_idle(executor) == pids


@pytest.mark.parametrize("wrong", [0, -1, -(2**70)])
def test_a_limit_out_of_range(executor, wrong):
    with pytest.raises(ValueError, match=f"max_memory must be >= 1, not {wrong}; None means no limit"):
        executor.options(max_memory=wrong)


@pytest.mark.parametrize("wrong", [1.5, "1G", True, b"1", [1]])
def test_a_limit_of_a_wrong_type(executor, wrong):
    with pytest.raises(TypeError, match="max_memory must be a number of bytes"):
        executor.options(max_memory=wrong)
