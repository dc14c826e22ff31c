"""`options(timeout=...)` ends an attempt for sure; `result(timeout)` only ends the wait."""

import signal
import time

import pytest

import disttask
import tasks
from helpers import assert_usable, is_alive, wait_busy, wait_idle
from tasks import add, sleep


@pytest.mark.parametrize(
    "call",
    [(tasks.spin,), (tasks.hold_the_gil, 60), (sleep, 3600), (tasks.hide_in_another_group,)],
    ids=["endless loop", "C call with the GIL", "sleep", "another process group"],
)
def test_the_worker_is_killed(executor, call):
    future = executor.options(timeout=0.5).submit(*call)
    (pid,) = wait_busy(executor)
    started = time.monotonic()
    with pytest.raises(disttask.TaskTimeout) as caught:
        future.result(timeout=10)
    assert time.monotonic() - started < 3
    exc = caught.value
    assert isinstance(exc, TimeoutError)
    assert (exc.task, exc.name, exc.pid) == (1, call[0].__name__, pid)
    assert f"task 1 ({call[0].__name__}) ran longer than its timeout of 0.5 s; worker pid {pid} was killed" in str(exc)
    assert not is_alive(pid)
    assert_usable(executor)


def test_it_is_told_from_an_expired_wait_by_done(executor):
    slow = executor.submit(sleep, 1)
    with pytest.raises(TimeoutError) as caught:
        slow.result(timeout=0.05)
    assert not isinstance(caught.value, disttask.TaskTimeout)
    assert not slow.done()
    late = executor.options(timeout=0.05).submit(sleep, 3600)
    with pytest.raises(TimeoutError) as caught:
        late.result(timeout=10)
    assert isinstance(caught.value, disttask.TaskTimeout)
    assert late.done()


def test_other_tasks_are_unharmed(executor):
    beside = executor.submit(sleep, 1.5, "beside")
    late = executor.options(timeout=0.3).submit(tasks.spin)
    behind = [executor.submit(add, number) for number in range(20)]
    assert type(late.exception(timeout=10)) is disttask.TaskTimeout
    assert beside.result(timeout=10) == "beside"
    assert [future.result(timeout=10) for future in behind] == list(range(1, 21))


def test_the_clock_starts_when_the_task_does(make_executor):
    executor = make_executor(1)
    options = executor.options(timeout=1.0)
    futures = [options.submit(sleep, 0.3, number) for number in range(6)]
    assert [future.result(timeout=20) for future in futures] == list(range(6))


def test_a_task_in_time_leaves_no_kill_behind(make_executor):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    for number in range(20):
        assert executor.options(timeout=0.2).submit(add, number).result(timeout=10) == number + 1
    assert executor.submit(sleep, 0.5, "slow").result(timeout=10) == "slow"
    assert wait_idle(executor) == [pid]


def test_a_timeout_is_not_retried(make_executor, tmp_path):
    executor = make_executor(1)
    note = tmp_path / "runs"
    future = executor.options(timeout=0.3, retries=5).submit(tasks.logged_sleep, note, "run", 3600)
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout
    assert_usable(executor, 5)
    assert tasks.lines(note) == ["run"]


def test_timeouts_of_any_length(executor):
    for timeout in (10, 1e9, 1e300, float("inf")):
        assert executor.options(timeout=timeout).submit(add, 1).result(timeout=10) == 2


def test_many_timeouts_at_once(executor):
    futures = [executor.options(timeout=0.05).submit(sleep, 3600) for _ in range(8)]
    assert {type(future.exception(timeout=30)) for future in futures} == {disttask.TaskTimeout}
    assert_usable(executor)


def test_the_host_stands_still_and_kills_nobody(start_script):
    """The clock of a stopped host runs on: nobody may be killed for the time in which it could not look."""
    script = start_script("""
import disttask, tasks
with disttask.Executor(2) as executor:
    futures = [executor.options(timeout=2.5).submit(tasks.sleep, 1.5, n) for n in range(2)]
    tasks.sleep(0.5)
    print("running", flush=True)
    print([future.result() for future in futures])
    print(executor.submit(abs, -3).result(), executor.status()["totals"]["worker_deaths"])
""")
    script.wait_out("running")
    script.send(signal.SIGSTOP)
    time.sleep(4)
    script.send(signal.SIGCONT)
    ended = script.wait(10)
    assert ended.out == "running\n[0, 1]\n3 0\n", ended.err
    assert ended.status == 0


def test_a_timeout_shorter_than_any_delivery_ends(executor):
    """What was never begun goes back to the queue for free, but not for ever."""
    future = executor.options(timeout=1e-9).submit(add, 1)
    assert isinstance(future.exception(timeout=30), disttask.TaskTimeout | type(None))
    assert_usable(executor)
