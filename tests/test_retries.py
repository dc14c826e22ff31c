"""`options(retries=...)`: how often a task runs. Counted by the tasks, in a file that each run appends to."""

import os
import re
import signal

import pytest

import disttask
import tasks
from helpers import assert_usable, children, wait_busy, wait_idle, wait_until
from tasks import lines, log
from web import native_door


def log_and_die(path):
    log(path, "run")
    os._exit(9)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_task_that_always_crashes(executor, tmp_path, retries):
    runs = tmp_path / "runs"
    exc = executor.options(retries=retries).submit(log_and_die, runs).exception(timeout=30)
    assert type(exc) is disttask.WorkerCrashed
    assert exc.attempts == retries + 1
    assert exc.exit_status == 9
    assert len(lines(runs)) == retries + 1
    assert_usable(executor)
    assert len(lines(runs)) == retries + 1


@pytest.mark.parametrize("how", tasks.DEATHS)
def test_a_task_that_crashes_once(executor, tmp_path, how):
    runs = tmp_path / "runs"
    assert executor.options(retries=2).submit(tasks.fail_once, runs, how).result(timeout=20) == "survived"
    assert len(lines(runs)) == 2
    totals = executor.status()["totals"]
    assert (totals["retried"], totals["failed"], totals["succeeded"]) == (1, 0, 1)


def wait_and_run_it_again(folder):
    """Its task dies on another worker, which then is kept busy; so this one runs it again, where it stands."""
    began, busy, held = (folder / name for name in ("began", "busy", "held"))
    future = disttask.options(retries=20).submit(die_on_the_way, began, held)
    tasks.wait_for_file(began)
    # First in the queue when that worker's successor comes.
    disttask.options(priority=1).submit(hold, busy, held)
    (folder / "die").touch()
    tasks.wait_for_file(busy)
    return future.result()


def die_on_the_way(began, held):
    if not held.exists():
        log(began, "run")
        tasks.wait_for_file(began.parent / "die")
    os._exit(9)


def hold(busy, held):
    held.touch()
    busy.touch()
    tasks.wait_for_file(busy.parent / "go")


def test_attempts_of_a_task_that_died_where_it_was_waited_for(make_executor, tmp_path):
    executor = make_executor(2)
    with native_door(executor, tmp_path) as door:
        outer = executor.submit(wait_and_run_it_again, tmp_path)
        assert type(outer.exception(timeout=30)) is disttask.WorkerCrashed
        (tmp_path / "go").touch()
        listed = wait_until(lambda: door.get("/api/v1/tasks?name=die_on_the_way")["past"], 10, "its end")
    (ended,) = listed
    assert ended["failure"] == "worker_crashed"
    runs = len(lines(tmp_path / "began")) + 1
    attempts = re.search(r"\(attempt (\d+) of \d+\)", ended["summary"])
    assert int(attempts[1]) >= runs >= 2, "an attempt that no worker has begun may have been taken back"
    assert f"; attempt {runs - 1}: worker pid" in ended["summary"]


def test_exceptions_are_not_retried(executor, tmp_path):
    def log_and_raise(path):
        log(path, "run")
        raise ValueError("no")

    runs = tmp_path / "runs"
    exc = executor.options(retries=5).submit(log_and_raise, runs).exception(timeout=10)
    assert isinstance(exc, ValueError)
    assert len(lines(runs)) == 1


def test_without_retries_nothing_runs_twice(executor, tmp_path):
    """Workers are killed while they run and while they are between two tasks."""
    runs = tmp_path / "runs"
    futures = [executor.submit(tasks.logged_sleep, runs, number, 0.01) for number in range(200)]
    for _ in range(8):
        pid = wait_busy(executor)[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in children())  # noqa: B023  called in this very round
    crashed = [future for future in futures if future.exception(timeout=60)]
    assert {type(future.exception()) for future in crashed} <= {disttask.WorkerCrashed}
    assert 1 <= len(crashed) <= 8
    counts = {}
    for line in lines(runs):
        counts[line] = counts.get(line, 0) + 1
    assert set(counts.values()) == {1}


def test_an_idle_worker_that_is_killed_costs_nothing(make_executor, tmp_path):
    """It had run tasks, so the page still names the last: that must not be charged again."""
    executor = make_executor(1)
    runs = tmp_path / "runs"
    for round_ in range(5):
        future = executor.submit(tasks.logged_sleep, runs, round_, 0)
        assert future.result(timeout=10) == round_
        os.kill(wait_idle(executor)[0], signal.SIGKILL)
    assert executor.submit(tasks.logged_sleep, runs, "last", 0).result(timeout=10) == "last"
    totals = executor.status()["totals"]
    assert (totals["failed"], totals["retried"]) == (0, 0)
    assert len(lines(runs)) == 6


def test_a_task_that_was_sent_and_not_begun_is_not_charged(make_executor, tmp_path):
    """The worker is stopped, so what it is sent is not taken up; then it is killed."""
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    os.kill(pid, signal.SIGSTOP)
    runs = tmp_path / "runs"
    future = executor.submit(tasks.logged_sleep, runs, "once", 0)
    os.kill(pid, signal.SIGKILL)
    assert future.result(timeout=10) == "once"
    assert lines(runs) == ["once"]


def test_a_retried_task_does_not_block_the_queue(make_executor, tmp_path):
    executor = make_executor(1)
    crashing = executor.options(retries=4).submit(log_and_die, tmp_path / "runs")
    others = [executor.submit(abs, -number) for number in range(50)]
    assert [future.result(timeout=10) for future in others] == list(range(50))
    assert crashing.exception(timeout=30).attempts == 5


def test_cancel_between_two_attempts(executor, tmp_path):
    runs = tmp_path / "runs"
    future = executor.options(retries=1000).submit(log_and_die, runs)
    wait_until(lambda: lines(runs) and future.cancel(), 20)
    count = len(lines(runs))
    assert_usable(executor)
    assert len(lines(runs)) == count
