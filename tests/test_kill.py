"""`Future.kill()` stops a task that runs; `cancel()` does so only with `kill_on_cancel`."""

import asyncio
import concurrent.futures as cf
import os
import re
import signal
import time

import pytest

import disttask
import tasks
from helpers import assert_usable, is_alive, wait_busy, wait_idle, wait_until
from tasks import lines


def catastrophe():
    """A regular expression that takes for ever, and the GIL with it."""
    re.match(r"(a+)+$", "a" * 50 + "b")


def begin(executor, path, function=tasks.logged_sleep, *args):
    """Submit something that logs that it has begun, and wait until it has."""
    future = executor.submit(function, path, *args)
    wait_until(lambda: lines(path), 10, "begun")
    return future


def log_and_spin(path):
    tasks.log(path, "run")
    tasks.spin()


@pytest.mark.parametrize("call", [(tasks.spin,), (catastrophe,), (tasks.sleep, 3600)], ids=["loop", "GIL", "sleep"])
def test_a_running_task_is_stopped(executor, call):
    wait_idle(executor)
    future = executor.submit(*call)
    (pid,) = wait_busy(executor)
    time.sleep(0.05)  # so that it is most likely begun; right before that, it is simply taken back
    assert future.kill()
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    with pytest.raises(cf.CancelledError):
        future.result()
    assert not future.kill() or future.cancelled(), "a second time changes nothing"
    assert_usable(executor)
    totals = executor.status()["totals"]
    assert (totals["cancelled"], totals["failed"], totals["worker_deaths"]) == (1, 0, 0)
    assert pid not in [worker["pid"] for worker in executor.status()["workers"]] or is_alive(pid)


def test_nothing_of_it_runs_when_it_is_resolved(executor, tmp_path):
    note = tmp_path / "grandchild"
    future = executor.submit(tasks.start_grandchild, note)
    wait_until(lambda: note.exists() and note.read_text(), 10, "a grandchild")
    (pid,) = wait_busy(executor)
    assert future.kill()
    assert not is_alive(pid)
    wait_until(lambda: not is_alive(int(note.read_text())), 5, "the grandchild gone as well")


def test_a_queued_task_is_cancelled_and_no_worker_dies(make_executor, tmp_path):
    executor = make_executor(1)
    running = begin(executor, tmp_path / "go", tasks.logged_sleep, "run", 0.3)
    (pid,) = wait_busy(executor)
    waiting = executor.submit(tasks.add, 1)
    assert waiting.kill()
    assert waiting.cancelled()
    assert running.result(timeout=10) == "run"
    assert wait_idle(executor) == [pid]


def test_a_task_that_has_ended_is_left_alone(executor):
    future = executor.submit(tasks.add, 1)
    assert future.result(timeout=10) == 2
    assert not future.kill()
    assert future.result() == 2
    failed = executor.submit(tasks.fail, ValueError, "no")
    assert isinstance(failed.exception(timeout=10), ValueError)
    assert not failed.kill()
    assert isinstance(failed.exception(), ValueError)


def test_no_retry_follows(executor, tmp_path):
    runs = tmp_path / "runs"
    future = begin(executor.options(retries=5), runs, log_and_spin)
    assert future.kill()
    assert_usable(executor)
    assert lines(runs) == ["run"]


def test_what_waits_behind_it_is_neither_lost_nor_run_twice(make_executor, tmp_path):
    """A thousand tiny tasks are sent ahead to the worker that is killed."""
    executor = make_executor(1)
    executor.submit(tasks.log, tmp_path / "warm", "up").result(timeout=10)
    for round_ in range(5):
        runs, go = tmp_path / f"runs{round_}", tmp_path / f"go{round_}"
        victim = begin(executor, go, log_and_spin)
        behind = [executor.submit(tasks.log, runs, number) for number in range(1000)]
        assert victim.kill()
        for future in behind:
            future.result(timeout=20)
        assert sorted(map(int, lines(runs))) == list(range(1000))


def test_killing_tasks_that_are_about_to_end(executor):
    """Whoever comes first, the future and what it says agree; other tasks are not touched."""
    for round_ in range(30):
        future = executor.submit(tasks.sleep, 0.001 * (round_ % 5), round_)
        beside = executor.submit(tasks.add, round_)
        time.sleep(0.001 * (round_ % 3))
        if future.kill():
            assert future.cancelled()
        else:
            assert future.result() == round_
        assert beside.result(timeout=10) == round_ + 1
    assert executor.status()["totals"]["failed"] == 0


def test_its_worker_dies_at_the_same_time(executor, tmp_path):
    future = begin(executor, tmp_path / "go", log_and_spin)
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGKILL)
    future.kill()
    cf.wait([future], timeout=10)
    assert future.cancelled() or isinstance(future.exception(), disttask.WorkerCrashed)
    assert_usable(executor)


def test_waiters_and_callbacks_hear_of_it(executor, tmp_path):
    heard = []
    future = begin(executor, tmp_path / "go", log_and_spin)
    future.add_done_callback(heard.append)
    assert future.kill()
    assert cf.wait([future], timeout=10).done == {future}
    wait_until(lambda: heard == [future], 5, "the callback")


def test_cancel_leaves_a_running_task_alone(executor, tmp_path):
    future = begin(executor, tmp_path / "go", tasks.logged_sleep, "run", 0.3)
    assert not future.cancel()
    assert not future.cancelled()
    assert future.result(timeout=10) == "run"


def test_cancel_stops_a_running_task_where_that_was_asked_for(executor, tmp_path):
    future = begin(executor.options(kill_on_cancel=True), tmp_path / "go", log_and_spin)
    (pid,) = wait_busy(executor)
    assert future.cancel()
    with pytest.raises(cf.CancelledError):
        future.result(timeout=10)
    assert future.cancelled()
    assert not is_alive(pid)
    done = executor.options(kill_on_cancel=True).submit(tasks.add, 1)
    assert done.result(timeout=10) == 2
    assert not done.cancel()
    assert_usable(executor)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("how", ["await", "wrap_future", "run_in_executor"])
def test_asyncio(executor, tmp_path, how, kill):
    """Cancelling who waits stops the task exactly where `kill_on_cancel` says so."""
    path = tmp_path / "go"

    async def main():
        options = executor.options(kill_on_cancel=kill)
        if how == "run_in_executor":
            waiter = asyncio.get_running_loop().run_in_executor(options, tasks.logged_sleep, path, "run", 0.5)
        else:
            future = options.submit(tasks.logged_sleep, path, "run", 0.5)
            waiter = asyncio.wrap_future(future) if how == "wrap_future" else asyncio.ensure_future(future)
        while not lines(path):
            await asyncio.sleep(0.005)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert await executor.submit(tasks.add, 1) == 2
        while executor.status()["running"]:
            await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(main(), 20))
    totals = executor.status()["totals"]
    assert (totals["succeeded"], totals["cancelled"]) == ((1, 1) if kill else (2, 0))


def test_awaiting(executor):
    async def main():
        assert await executor.submit(tasks.add, 1) == 2
        with pytest.raises(ValueError, match="no"):
            await executor.submit(tasks.fail, ValueError, "no")
        assert await asyncio.gather(*(executor.submit(tasks.add, number) for number in range(50))) == list(range(1, 51))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.options(kill_on_cancel=True).submit(tasks.spin), 0.2)
        assert await executor.submit(tasks.add, 2) == 3

    asyncio.run(asyncio.wait_for(main(), 20))
    wait_until(lambda: executor.status()["totals"]["cancelled"] == 1, 5, "the endless task was stopped")


def test_the_pool_is_shut_down_meanwhile(make_executor, tmp_path):
    executor = make_executor(1)
    future = begin(executor, tmp_path / "go", log_and_spin)
    behind = executor.submit(tasks.add, 1)
    executor.shutdown(wait=False)
    assert future.kill()
    assert behind.result(timeout=10) == 2
    executor.shutdown()
