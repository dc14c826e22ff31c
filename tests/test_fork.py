"""`os.fork()` in the host: the child has no part in the pool, and does the parent's no harm."""

import signal
import subprocess
import sys
import threading

import pytest

from tasks import add

IN_CHILD = """
import os, signal, sys, tempfile, time, disttask, tasks
from concurrent.futures import wait

signal.alarm(20)  # a child that hangs ends by SIGALRM

def expect(kind, call, *args, **kwargs):
    try:
        value = call(*args, **kwargs)
    except kind as exc:
        assert "make a new one in this process" in str(exc), exc
    else:
        raise AssertionError(f"{call} returned {value!r}")

def in_child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc(file=sys.stdout)
            sys.stdout.flush()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    print("child ended with", os.waitstatus_to_exitcode(status))

executor = disttask.Executor(2)
assert executor.submit(tasks.add, 1).result() == 2
Forked = disttask.ForkedPoolError
"""

AFTER = """
print(list(executor.map(abs, range(-3, 0))), executor.status()["totals"]["worker_deaths"])
executor.shutdown()
"""


def run(run_script, body):
    out = run_script(IN_CHILD + body + AFTER, timeout=40).out
    assert out == "child ended with 0\n[3, 2, 1] 0\n"


def test_every_call_in_the_child_is_an_error(run_script):
    run(
        run_script,
        """
pending = executor.submit(tasks.sleep, 0.5)
def child():
    expect(Forked, executor.submit, abs, 1)
    expect(Forked, executor.options(retries=1).submit, abs, 1)
    expect(Forked, executor.map, abs, [1])
    expect(Forked, executor.status)
    expect(Forked, pending.result)
    expect(Forked, pending.result, timeout=1)
    expect(Forked, pending.exception)
    expect(Forked, pending.cancel)
    expect(Forked, lambda: wait([pending]))
    expect(Forked, pending.add_done_callback, print)
    executor.shutdown()
in_child(child)
assert pending.result() is None
""",
    )


def test_a_future_that_was_observed_before_the_fork(run_script):
    run(
        run_script,
        """
folder = tempfile.TemporaryDirectory()
pending, calls = executor.submit(tasks.wait_for_file, folder.name + "/gate"), []
pending.add_done_callback(lambda future: calls.append(os.getpid()))
finished = executor.submit(tasks.add, 1)
wait([finished])
def child():
    for call in (pending.result, pending.exception, pending.done, lambda: wait([pending], timeout=5)):
        expect(Forked, call)
    expect(Forked, finished.result)
    assert wait([finished], timeout=5).done == {finished}
    assert calls == [], "the callback is the parent's"
in_child(child)
open(folder.name + "/gate", "w").close()
assert pending.result() is None
while not calls:
    time.sleep(0.01)
assert calls == [os.getpid()]
""",
    )


def test_the_child_can_make_a_pool_of_its_own(run_script):
    run(
        run_script,
        """
assert disttask.submit(tasks.add, 1).result() == 2
parents = disttask.submit(tasks.add, 5).task_id
def child():
    with disttask.Executor(2) as own:
        assert list(own.map(abs, range(-5, 0))) == [5, 4, 3, 2, 1]
        assert own.submit(os._exit, 3).exception().exit_status == 3
    future = disttask.submit(tasks.add, 2)
    assert future.result() == 3
    assert future.task_id != parents
    try:
        disttask.get_results([parents])
    except disttask.UnknownTask:
        pass
    disttask.default_executor().shutdown()
in_child(child)
""",
    )


def test_a_child_that_ends_as_a_program_does(run_script):
    """Its exit handlers run, and leave the parent's workers alone."""
    run(
        run_script,
        """
pending = executor.submit(tasks.sleep, 0.5)
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    sys.exit(0)
print("child ended with", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert pending.result() is None
""",
    )


def test_forks_at_any_moment(run_script):
    """Other threads are in the middle of everything: the child must not wait for a lock of theirs."""
    source = (
        IN_CHILD
        + """
import threading
stop = threading.Event()
def storm():
    while not stop.is_set():
        futures = [executor.submit(tasks.add, n) for n in range(20)]
        wait(futures)
        executor.status()
threads = [threading.Thread(target=storm) for _ in range(3)]
for thread in threads: thread.start()
def child():
    expect(Forked, executor.submit, abs, 1)
    future = disttask.Executor(1).submit(tasks.add, 1)
    future.add_done_callback(lambda f: None)
    assert future.result(timeout=10) == 2
for _ in range(10):
    in_child(child)
stop.set()
for thread in threads: thread.join()
"""
        + AFTER
    )
    out = run_script(source, timeout=60).out
    assert out == "child ended with 0\n" * 10 + "[3, 2, 1] 0\n"


def test_multiprocessing_forks_beside_the_pool(run_script):
    run(
        run_script,
        """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=expect, args=(Forked, executor.submit, abs, 1))
process.start()
process.join()
print("child ended with", process.exitcode)
""",
    )


def test_subprocesses_keep_their_own_exit_status(executor):
    failures = []

    def run_programs():
        for status in range(40):
            program = [sys.executable, "-S", "-c", f"raise SystemExit({status})"]
            if subprocess.run(program, check=False).returncode != status:
                failures.append(status)

    threads = [threading.Thread(target=run_programs) for _ in range(2)]
    for thread in threads:
        thread.start()
    futures = []
    while any(thread.is_alive() for thread in threads):
        futures = [executor.submit(add, number) for number in range(50)]
        futures[0].result(timeout=10)
        executor.submit(signal.raise_signal, signal.SIGKILL).exception(timeout=10)
    assert failures == []
    assert [future.result(timeout=10) for future in futures] == list(range(1, 51))


@pytest.mark.parametrize("signum", [signal.SIGCHLD])
def test_a_handler_of_the_host_is_left_alone(run_script, signum):
    source = """
import signal, disttask, os
seen = []
signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
with disttask.Executor(1) as executor:
    executor.submit(os._exit, 1).exception(timeout=10)
    print(callable(signal.getsignal(signal.SIGCHLD)), executor.submit(abs, -1).result())
"""
    assert run_script(source).out == "True 1\n"
