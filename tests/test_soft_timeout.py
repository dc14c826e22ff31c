"""`options(soft_timeout=...)`: an exception inside the task, and inside no other."""

import os
import pickle
import signal
import time

import pytest

import disttask
import soft_tasks
import tasks
from disttask import _native
from helpers import assert_usable, is_alive, wait_idle, wait_until


@pytest.mark.parametrize("call", [(time.sleep, 60), (tasks.spin,)], ids=["sleep", "endless loop"])
def test_it_is_raised_inside_the_task_and_the_worker_lives_on(make_executor, call):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    future = executor.options(soft_timeout=0.2, name="long", tags=["a", "b"]).submit(*call)
    with pytest.raises(disttask.SoftTimeout) as caught:
        future.result(timeout=10)
    exc = caught.value
    assert isinstance(exc, disttask.TaskTimeout)
    assert isinstance(exc, TimeoutError)
    assert str(exc) == "task 1 (long) ran longer than its soft_timeout of 0.2 s"
    assert (exc.task, exc.name, exc.tags, exc.attempts, exc.pid) == (1, "long", ("a", "b"), 1, pid)
    assert isinstance(exc.__cause__, disttask.RemoteTraceback)
    assert executor.submit(os.getpid).result(timeout=10) == pid
    again = pickle.loads(pickle.dumps(exc))
    assert (type(again), str(again), vars(again)) == (type(exc), str(exc), vars(exc))


def test_the_traceback_says_where_it_stood(executor):
    exc = executor.options(soft_timeout=0.1).submit(tasks.spin).exception(timeout=10)
    assert "in spin" in str(exc.__cause__)


def test_a_task_that_catches_it_returns_what_it_has(executor):
    count, told = executor.options(soft_timeout=0.2).submit(soft_tasks.partial).result(timeout=10)
    assert count > 1000
    assert told == "task 1 (partial) ran longer than its soft_timeout of 0.2 s"


def test_a_task_that_is_done_in_time_knows_nothing_of_it(executor):
    assert executor.options(soft_timeout=30).submit(soft_tasks.partial, 1000).result(timeout=10) == (1000, "")


def test_it_can_clean_up(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.options(soft_timeout=0.2, timeout=30).submit(soft_tasks.clean_up, path)
    assert type(future.exception(timeout=10)) is disttask.SoftTimeout
    assert tasks.lines(path) == ["cleaned up"]


def test_one_that_goes_on_is_told_once_and_killed_at_its_time_out(make_executor, tmp_path):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    started = time.monotonic()
    future = executor.options(soft_timeout=0.2, timeout=1.0).submit(soft_tasks.stubborn, tmp_path / "log")
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout
    assert 0.9 < time.monotonic() - started < 5
    assert tasks.lines(tmp_path / "log") == ["told"]
    assert not is_alive(pid)
    assert_usable(executor)


def test_code_in_c_that_keeps_the_gil_is_ended_by_the_time_out(make_executor):
    executor = make_executor(1)
    future = executor.options(soft_timeout=0.1, timeout=0.5).submit(sum, range(10**12))
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout
    assert_usable(executor)


def test_it_never_leaks_into_what_runs_next(make_executor):
    """Tasks end just when they are told so, and others stand behind them at the same worker."""
    executor = make_executor(1)
    executor.submit(soft_tasks.spin_for, 0.001).result(timeout=10)
    tight = executor.options(soft_timeout=0.004)
    limited, others = [], []
    for number in range(250):
        limited.append(tight.submit(soft_tasks.spin_for, 0.0036 + 0.0008 * (number % 11) / 10, number))
        others.append(executor.submit(soft_tasks.spin_for, 0.001, number))
    assert [future.result(timeout=60) for future in others] == list(range(250))
    seen = {"value": 0, "told": 0}
    for number, future in enumerate(limited):
        exc = future.exception(timeout=60)
        if exc is None:
            assert future.result() == number
            seen["value"] += 1
        else:
            assert type(exc) is disttask.SoftTimeout
            assert exc.task == 2 * number + 2
            seen["told"] += 1
    assert min(seen.values()) > 5, seen
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_the_signal_alone_means_nothing(make_executor):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    for _ in range(100):
        os.kill(pid, _native.soft_signal())
    assert executor.submit(soft_tasks.disturbed, 0.2).result(timeout=10) > 100
    limited = executor.options(soft_timeout=30).submit(soft_tasks.disturbed, 0.2)
    assert limited.result(timeout=10) > 100
    assert executor.submit(os.getpid).result(timeout=10) == pid


@pytest.mark.parametrize("chunksize", [None, 5])
def test_each_item_of_map_has_its_own(executor, chunksize):
    found = list(
        executor.options(soft_timeout=1.5).map(
            soft_tasks.nap, [0.05, 60, 0.05, 0.05, 60], "abcde", return_exceptions=True, chunksize=chunksize
        )
    )
    assert [found[index] for index in (0, 2, 3)] == ["a", "c", "d"]
    assert [type(found[index]) for index in (1, 4)] == [disttask.SoftTimeout] * 2
    assert executor.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize(
    ("retry_on", "runs"),
    [(None, 1), (ValueError, 1), (disttask.SoftTimeout, 3), (disttask.TaskTimeout, 3), (TimeoutError, 3)],
)
def test_it_is_an_exception_of_the_task_and_tried_again_where_that_is_asked_for(executor, tmp_path, retry_on, runs):
    path = tmp_path / "log"
    options = executor.options(soft_timeout=0.6, retries=2, retry_on=retry_on, backoff=0.01)
    exc = options.submit(soft_tasks.logged, path, 60).exception(timeout=20)
    assert type(exc) is disttask.SoftTimeout
    assert exc.attempts == runs
    assert len(tasks.lines(path)) == runs
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_a_hard_time_out_is_not_tried_again_for_a_soft_one(make_executor, tmp_path):
    executor = make_executor(1)
    options = executor.options(soft_timeout=0.1, timeout=0.4, retries=2, retry_on=disttask.SoftTimeout, backoff=0.01)
    future = options.submit(soft_tasks.stubborn, tmp_path / "log")
    assert type(future.exception(timeout=20)) is disttask.TaskTimeout
    assert tasks.lines(tmp_path / "log") == ["told"]


@pytest.mark.parametrize("workers", [1, 2], ids=["inline", "elsewhere"])
@pytest.mark.parametrize("how", ["result", "exception", "wait"])
def test_whoever_waits_for_a_nested_task_is_told(make_executor, workers, how):
    """Also where it runs that task itself, which is a part of it then."""
    executor = make_executor(workers)
    wait_idle(executor)
    future = executor.options(soft_timeout=0.4, timeout=20).submit(soft_tasks.wait_inside, 5, how)
    assert future.result(timeout=15) == "told: task 1 (wait_inside) ran longer than its soft_timeout of 0.4 s"
    assert_usable(executor, 10)
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_a_process_that_the_task_forks_is_left_alone(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.options(soft_timeout=0.3).submit(soft_tasks.fork_and_outlive, path)
    assert type(future.exception(timeout=10)) is disttask.SoftTimeout
    assert tasks.lines(path) == ["child went on"]


def test_a_worker_that_dies_meanwhile(executor, tmp_path):
    path = tmp_path / "log"
    future = executor.options(soft_timeout=30).submit(soft_tasks.logged, path, 60)
    wait_until(lambda: tasks.lines(path), what="begun")
    os.kill(int(tasks.lines(path)[0]), signal.SIGKILL)
    assert type(future.exception(timeout=10)) is disttask.WorkerCrashed
    assert_usable(executor)


def test_disttask_task_brings_it_along(executor):
    slow = disttask.task(soft_timeout=0.2)(tasks.sleep)
    assert type(executor.submit(slow, 60).exception(timeout=10)) is disttask.SoftTimeout
    assert executor.options(soft_timeout=30).submit(slow, 0.4, "in time").result(timeout=10) == "in time"


def test_functions_by_value(run_script):
    script = """
import time, disttask

def main():
    def slow():
        time.sleep(60)

    with disttask.Executor(1) as executor:
        print(type(executor.options(soft_timeout=0.2).submit(slow).exception(10)).__name__)
        try:
            disttask.options(soft_timeout=0.2).submit(disttask.serialize_task(slow))
        except TypeError as exc:
            print(exc)

main()
"""
    out = run_script(script).out.splitlines()
    assert out == ["SoftTimeout", "soft_timeout needs a callable: a task text is not unpickled here"]


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_it_must_be_more_than_nothing(executor, value):
    with pytest.raises(ValueError, match="soft_timeout must be more than 0 seconds"):
        executor.options(soft_timeout=value)


@pytest.mark.parametrize("value", ["1", True, [1]])
def test_it_must_be_a_number(executor, value):
    with pytest.raises(TypeError, match="soft_timeout must be a number of seconds or None"):
        executor.options(soft_timeout=value)


@pytest.mark.parametrize("timeout", [1, 2, 2.0])
def test_it_must_leave_time_for_cleaning_up(executor, timeout):
    with pytest.raises(ValueError, match=f"soft_timeout must be less than timeout, not 2 and {timeout}"):
        executor.options(soft_timeout=2, timeout=timeout)


def test_what_is_too_long_to_express_is_no_limit(executor):
    assert executor.options(soft_timeout=1e300).submit(pow, 2, 3).result(timeout=10) == 8
    assert executor.options(soft_timeout=float("inf")).submit(pow, 2, 3).result(timeout=10) == 8
    assert executor.options(soft_timeout=1e15).submit(pow, 2, 3).result(timeout=10) == 8


def test_nested_tasks_cannot_have_one(executor):
    with pytest.raises(ValueError, match="soft_timeout: not for tasks that a task submits"):
        executor.submit(nested_with_one).result(timeout=10)


def nested_with_one():
    disttask.options(soft_timeout=1).submit(abs, 1)


def test_it_reaches_a_task_that_logs(make_executor):
    # What takes longer to import than the first task has would let it hear of its end before it has begun.
    executor = make_executor(2, capture_output=False, preload=["soft_tasks", "logging"])
    futures = [executor.options(soft_timeout=0.1).submit(soft_tasks.log_for, 20) for _ in range(6)]
    assert [future.result(timeout=60) for future in futures] == ["told"] * 6
