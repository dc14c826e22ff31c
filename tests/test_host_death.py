"""Host and workers stand and fall together; who stands still is told from who works."""

import os
import signal
import time

import psutil
import pytest

import disttask
import tasks
from helpers import assert_usable, wait_busy, wait_idle, wait_until
from tasks import sleep

WORKING = """
import os, sys, disttask, tasks
executor = disttask.Executor(2)
futures = [executor.submit(tasks.sleep, 0.01 * (n % 3)) for n in range(10_000)]
futures[20].result()
{extra}
print("working", flush=True)
futures[-1].result()
"""

FORKED = """
if os.fork() == 0:
    import time
    time.sleep(30)
    os._exit(0)
"""


@pytest.mark.parametrize("round_", range(10))
def test_kill_9_of_the_host(start_script, round_):
    script = start_script(WORKING.format(extra=""))
    script.wait_out("working")
    assert len(script.relatives()) == 2
    time.sleep(0.003 * round_)  # another moment of the work each time
    script.send(signal.SIGKILL)
    assert script.wait(5).status == -signal.SIGKILL  # `wait` also checks that nobody is left after one second


@pytest.mark.parametrize("round_", range(3))
def test_kill_9_of_the_host_with_a_forked_child_of_it_alive(start_script, round_):
    script = start_script(WORKING.format(extra=FORKED))
    script.wait_out("working")
    forked = [pid for pid in script.relatives() if psutil.Process(pid).cmdline()[-1].endswith(".py")]
    assert len(forked) == 1
    script.send(signal.SIGKILL)
    script.process.wait(5)
    wait_until(lambda: script.relatives() == forked, 1.0, "all workers gone, the forked child not")


HANGING = """
import disttask, tasks
executor = disttask.Executor(2)
futures = [executor.submit({task}) for _ in range(2)]
tasks.wait_for_two_busy(executor)
print("hanging", flush=True)
futures[0].result()
"""


@pytest.mark.parametrize("task", ["tasks.spin", "tasks.hold_the_gil, 60", "tasks.sleep, 60"])
def test_kill_9_while_the_workers_do_not_listen(start_script, task):
    source = HANGING.format(task=task).replace("tasks.wait_for_two_busy", "__import__('helpers').wait_busy")
    script = start_script(source.replace("(executor)\n", "(executor, 2)\n", 1))
    script.wait_out("hanging")
    script.send(signal.SIGKILL)
    script.wait(5)


def test_kill_9_while_workers_start(start_script):
    for _ in range(3):
        script = start_script("import disttask; e = disttask.Executor(8); print('up', flush=True); input()")
        script.wait_out("up")
        script.send(signal.SIGKILL)
        script.wait(5)


def test_a_grandchild_goes_too(start_script, tmp_path):
    note = tmp_path / "pid"
    script = start_script(f"""
import disttask, tasks
disttask.Executor(1).submit(tasks.start_grandchild, {str(note)!r}).result()
""")
    wait_until(lambda: note.exists() and note.read_text(), 10, "grandchild started")
    script.send(signal.SIGKILL)
    script.wait(5)


def test_a_stopped_idle_worker_is_replaced(executor):
    pids = wait_idle(executor)
    os.kill(pids[0], signal.SIGSTOP)
    wait_until(lambda: not psutil.pid_exists(pids[0]), 6, "stopped worker killed")
    assert pids[0] not in wait_idle(executor)
    assert_usable(executor)


def test_a_stopped_worker_that_has_begun_nothing_is_replaced(executor):
    """It was stopped before the task was sent there: that is not lost, and does not wait as for one who is at work."""
    pids = wait_idle(executor)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids), 10, "stopped")
    futures = [executor.submit(abs, -number) for number in range(4)]
    assert [future.result(timeout=20) for future in futures] == [0, 1, 2, 3]
    totals = executor.status()["totals"]
    assert (totals["failed"], totals["retried"]) == (0, 0)


def test_a_stopped_busy_worker_with_a_timeout(executor):
    future = executor.options(timeout=1.5).submit(sleep, 3600)
    wait_until(future.running, 10, "begun")  # what a stopped worker has not begun goes to another
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGSTOP)
    assert type(future.exception(timeout=10)) is disttask.TaskTimeout  # without it 60 s would be waited
    assert_usable(executor)


def test_a_busy_worker_that_stands_still_for_a_while_is_left_alone(executor):
    future = executor.submit(sleep, 0.5, "done")
    wait_until(future.running, 10, "begun")
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3.5)  # longer than an idle one may
    os.kill(pid, signal.SIGCONT)
    assert future.result(timeout=10) == "done"
    assert executor.status()["totals"]["worker_deaths"] == 0


def test_a_worker_that_holds_the_gil_beats_on(make_executor):
    executor = make_executor(1)
    (pid,) = wait_idle(executor)
    assert executor.submit(tasks.hold_the_gil, 3).result(timeout=10) == 0
    assert wait_idle(executor) == [pid]
