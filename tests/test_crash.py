"""A worker may die at any point of a task: that task alone fails, and the pool goes on."""

import os
import signal
import threading
from pathlib import Path

import psutil
import pytest

import disttask
import life_tasks
import tasks
from disttask._handshake import in_worker
from helpers import assert_usable, is_alive, open_fds, wait_busy, wait_idle, wait_until
from tasks import DEATHS, add, sleep

ENDS = {
    "exit": (7, None),
    "kill": (None, signal.SIGKILL),
    "segfault": (None, signal.SIGSEGV),
    "abort": (None, signal.SIGABRT),
    "overflow": (None, signal.SIGSEGV),
}


class DiesWhenLoaded:
    """Ends the process that unpickles it."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        return DEATHS[self.how], ()


class DiesAsFunction(DiesWhenLoaded):
    def __call__(self):
        raise AssertionError("never comes this far")


class DiesWhenPickled:
    """Ends the worker that pickles it."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        if in_worker():
            DEATHS[self.how]()
        return DiesWhenPickled, (self.how,)


class RaisedAndDiesWhenPickled(DiesWhenPickled, Exception):
    pass


def cells(how):
    """A call that dies in each place that a task passes through."""
    return {
        "load function": (DiesAsFunction(how),),
        "load argument": (add, DiesWhenLoaded(how)),
        "run": (DEATHS[how],),
        "pickle result": (DiesWhenPickled, how),
        "pickle exception": (tasks.fail, RaisedAndDiesWhenPickled, how),
    }


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("where", cells("exit"))
def test_crash_matrix(executor, how, where):
    exc = executor.submit(*cells(how)[where]).exception(timeout=20)
    assert type(exc) is disttask.WorkerCrashed, repr(exc)
    assert (exc.exit_status, exc.signal) == ENDS[how]
    assert exc.task == 1
    assert exc.attempts == 1
    assert f"pid {exc.pid}" in str(exc)
    assert_usable(executor)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError, ValueError])
def test_raising_is_no_crash(executor, kind):
    pids = set(wait_idle(executor))
    assert type(executor.submit(tasks.fail, kind).exception(timeout=10)) is kind
    assert_usable(executor)
    assert set(wait_idle(executor)) == pids


def test_one_of_two_hundred(executor):
    futures = [executor.submit(add, n) if n != 77 else executor.submit(os._exit, 7) for n in range(200)]
    crash = futures.pop(77).exception(timeout=30)
    values = [future.result(timeout=30) for future in futures]
    assert values == [n + 1 for n in range(200) if n != 77]
    assert type(crash) is disttask.WorkerCrashed
    assert (crash.task, crash.name, crash.exit_status, crash.signal) == (78, "_exit", 7, None)
    assert str(crash).startswith(f"worker pid {crash.pid} exited with status 7 while it ran task 78 (_exit)")
    assert executor.submit(add, 1).result(timeout=10) == 2


def test_the_error_has_the_last_lines_of_stderr(executor, capfd):
    def last_words():
        os.write(2, b"early\n" * 5000 + b"something is wrong\n")
        os._exit(1)

    exc = executor.submit(last_words).exception(timeout=10)
    assert exc.stderr.endswith("something is wrong")
    assert len(exc.stderr) <= 8192
    assert str(exc).endswith("early\nsomething is wrong")
    assert str(exc).count("early") < 25
    wait_until(lambda: "something is wrong" in capfd.readouterr().err, 5, "passed on to our own stderr")


def test_an_idle_worker_that_is_killed_is_replaced(executor):
    pids = set(wait_idle(executor))
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(victim), 5, "reaped")
    assert len(set(wait_idle(executor)) - pids) == 1
    assert_usable(executor)
    assert executor.status()["totals"]["failed"] == 0


def test_killed_from_outside(executor, tmp_path):
    note = tmp_path / "begun"  # a task that was sent and not begun would just run again
    future = executor.submit(tasks.logged_sleep, note, "begun", 3600)
    wait_until(lambda: tasks.lines(note))
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGTERM)
    exc = future.exception(timeout=10)
    assert (exc.pid, exc.signal) == (pid, signal.SIGTERM)
    assert f"worker pid {pid} was killed by signal 15 (SIGTERM)" in str(exc)


def test_a_worker_ignores_ctrl_c(executor, tmp_path):
    future = executor.submit(tasks.wait_for_file, tmp_path / "go", "done")
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGINT)
    (tmp_path / "go").touch()
    assert future.result(timeout=10) == "done"


@pytest.mark.parametrize("task", [tasks.close_low_fds, tasks.close_low_fds_and_reuse])
def test_closing_the_low_descriptors_hurts_nobody(make_executor, task):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    assert executor.submit(task).result(timeout=10) in ("closed", 60)
    assert executor.submit(sleep, 0.3, "later").result(timeout=10) == "later"
    assert wait_idle(executor) == [pid]


def test_a_worker_whose_task_has_closed_its_descriptors_leaves_in_silence(start_script):
    """It can still answer: the rings need none. At its end none is closed a second time."""
    ended = start_script(
        """
import disttask, os
with disttask.Executor(1) as executor:
    executor.submit(os.closerange, 3, 1000).result()
    assert executor.submit(abs, -1).result() == 1
"""
    ).wait(10)
    assert (ended.status, ended.err) == (0, "")


def test_closing_all_descriptors_ends_the_worker(executor):
    """Which is told: the worker does not take it for the end of its host."""
    exc = executor.submit(tasks.close_all_fds).exception(timeout=10)
    assert type(exc) is disttask.WorkerCrashed
    assert "a task closed its control socket" in str(exc)
    assert_usable(executor)


def test_what_a_task_opens_where_its_worker_reads_its_peak_is_left_alone(executor):
    assert executor.submit(life_tasks.put_in_place_of_its_status).result(timeout=20) == 5
    assert_usable(executor)


@pytest.mark.parametrize("fd", [1, 2])
def test_a_flood_of_output_stops_nobody(executor, fd, capfd):
    flood = executor.submit(tasks.flood, fd, 50)
    assert [executor.submit(add, n).result(timeout=20) for n in range(50)] == list(range(1, 51))
    assert flood.result(timeout=60) == 50
    capfd.readouterr()


def test_a_child_that_returns_from_the_task_answers_nothing(make_executor):
    executor = make_executor(1)
    assert [executor.submit(tasks.fork_and_return).result(timeout=10) for _ in range(20)] == ["parent"] * 20
    assert_usable(executor)


def test_a_child_that_outlives_its_worker_keeps_nothing_open(make_executor, tmp_path):
    """It has the worker's end of the control socket, and has left the group that dies with the worker."""
    fds, note = open_fds(), tmp_path / "pid"
    executor = make_executor(1)
    future = executor.submit(tasks.leave_a_child, note)
    executor.shutdown()
    assert future.exception(timeout=0).exit_status == 7
    child = int(tasks.lines(note)[0])
    try:
        assert is_alive(child)
        left = [what for fd, what in open_fds().items() if fds.get(fd) != what]
        assert not [what for what in left if what.startswith(("socket", "pipe", "anon_inode:[pidfd]"))]
    finally:
        os.kill(child, signal.SIGKILL)


def test_daemon_threads_may_stay(executor):
    assert executor.submit(tasks.leave_daemon_threads, 5).result(timeout=10) == 5
    assert_usable(executor)
    done = threading.Event()
    threading.Thread(target=lambda: (executor.shutdown(), done.set()), daemon=True).start()
    assert done.wait(10)


@pytest.mark.parametrize("end", ["crash", "timeout", "shutdown"])
def test_what_a_task_started_dies_with_its_worker(make_executor, tmp_path, end):
    executor = make_executor(1)
    note = tmp_path / "pid"
    options = {"timeout": 1.0} if end == "timeout" else {}
    future = executor.options(**options).submit(tasks.start_grandchild, note)
    grandchild = int(wait_until(lambda: note.exists() and note.read_text(), 10))
    assert is_alive(grandchild)
    if end == "crash":
        os.kill(wait_busy(executor)[0], signal.SIGKILL)
    elif end == "shutdown":
        executor.__exit__(KeyboardInterrupt, None, None)
    assert future.exception(timeout=10) is not None
    wait_until(lambda: not is_alive(grandchild), 2, "grandchild gone")


def test_somebody_else_takes_the_exit_status(run_script):
    """SIGCHLD ignored: the kernel reaps at once, and nobody learns the status."""
    source = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
import disttask
with disttask.Executor(2) as executor:
    exc = executor.submit(os._exit, 7).exception(timeout=10)
    print(type(exc).__name__, exc.exit_status, exc.signal, exc)
    print(list(executor.map(abs, range(-50, 0))) == list(range(50, 0, -1)))
"""
    out = run_script(source).out
    assert "WorkerCrashed None None" in out
    assert "taken by somebody else" in out
    assert out.endswith("True\n")


def test_the_last_crash_does_not_stop_the_shutdown(make_executor):
    executor = make_executor(2)
    futures = [executor.submit(os._exit, 1) for _ in range(10)]
    executor.shutdown()
    assert {type(future.exception(timeout=0)) for future in futures} == {disttask.WorkerCrashed}


def test_a_worker_has_no_descriptor_of_the_host_and_does_not_listen(executor, tmp_path):
    with (tmp_path / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), False)
        for pid in wait_idle(executor):
            targets = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            assert mine.name not in targets
            assert psutil.Process(pid).net_connections() == []
