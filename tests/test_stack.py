"""The stack of a task while it runs, whatever it is doing."""

import functools
import os
import re
import signal
import threading
import time

import psutil
import pytest

import disttask
import tasks
from helpers import assert_usable, wait_busy, wait_until


def begun(executor, *call):
    future = executor.submit(*call)
    wait_busy(executor)
    wait_until(future.running)
    return future


def end(executor, future):
    """Kill the worker that runs it; the pool goes on."""
    for worker in executor.status()["workers"]:
        if worker["task"]:
            os.kill(worker["pid"], signal.SIGKILL)
    future.exception(timeout=10)
    assert_usable(executor)


def spin():
    while True:
        pass


def backtrack():
    re.match(r"(a+)+$", "a" * 64 + "b")  # holds the GIL for longer than the universe has been there


def deep(levels):
    if levels:
        deep(levels - 1)
    time.sleep(3600)


def with_threads(count):
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    time.sleep(3600)


def wait_long():
    time.sleep(3600)


def start_thread():
    threading.Thread(target=wait_long, daemon=True).start()


def stack_with(future, *names):
    """A task that has just been begun may not have come so far yet."""
    texts = []

    def found():
        texts.append(future.stack() or "")  # it may be on its way
        return all(f" in {name}" in texts[-1] for name in names)

    wait_until(found, 10, f"{names} in a stack")
    return texts[-1]


def test_a_loop_a_call_that_holds_the_gil_and_a_sleep(make_executor):
    executor = make_executor(1)
    for function, names in ((spin, ["spin"]), (backtrack, ["match", "backtrack"])):
        future = begun(executor, function)
        text = stack_with(future, *names)
        assert text.count("most recent call first") == 1
        assert text.rstrip().endswith(f" in {names[-1]}"), "the worker's own frames are not shown"
        end(executor, future)
    future = executor.submit(tasks.sleep, 0.5, "on time")
    wait_until(future.running)
    stack_with(future, "sleep")
    assert future.result(timeout=10) == "on time", "it goes on as if nothing had been"


def no_frame(future):
    """Its stack, once no Python function is on it: before, what it is made of may be imported."""
    text = future.stack() or ""
    return "no Python frame" in text and text


@pytest.mark.parametrize("function", [time.sleep, functools.partial(time.sleep), disttask.task(time.sleep)])
def test_a_function_that_is_no_python_code_is_named(make_executor, function):
    future = begun(make_executor(1), function, 3600)
    text = wait_until(lambda: no_frame(future))
    title, frame, rest = text.split("\n")
    assert title.endswith("(most recent call first):")
    assert frame == "  <no Python frame: in C code, of sleep itself or of what loads its arguments>"
    assert not rest
    future.kill()


def test_threads_beside_one_that_is_no_python_code(make_executor):
    executor = make_executor(1)
    executor.submit(start_thread).result(timeout=10)
    future = begun(executor, time.sleep, 3600)
    text = stack_with(future, "wait_long")
    assert text.count("most recent call first") == 2
    assert text.rstrip().rpartition("\n")[2].startswith("  <no Python frame: in C code, of sleep itself")
    future.kill()


def test_deep_ones_and_threads(make_executor):
    executor = make_executor(1)
    future = begun(executor, deep, 500)
    stack_with(future, "deep")
    end(executor, future)
    future = begun(executor, with_threads, 3)
    wait_until(lambda: (future.stack() or "").count("most recent call first") == 4)
    end(executor, future)


def test_many_at_once_and_again(make_executor):
    executor = make_executor(2)
    futures = [executor.submit(deep, 20), executor.submit(deep, 20)]
    wait_busy(executor, 2)
    texts = []

    def ask(future):
        texts.extend(stack_with(future, "deep") for _ in range(10))

    askers = [threading.Thread(target=ask, args=(future,)) for future in futures * 2]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    assert len(texts) == 40
    assert all(text.count(" in deep\n") == 21 and text.count("first") == 1 for text in texts)
    for worker in executor.status()["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)


def test_no_stack_of_what_does_not_run(make_executor):
    executor = make_executor(1)
    running = begun(executor, spin)
    waiting = executor.submit(abs, -1)
    assert waiting.stack() is None
    end(executor, running)
    assert running.stack() is None
    assert waiting.result(timeout=10) == 1
    assert waiting.stack() is None


def test_a_worker_that_is_stopped_shows_none_and_one_that_goes_on_does(make_executor):
    executor = make_executor(1)
    future = begun(executor, spin)
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 5, "it is stopped")
    start = time.monotonic()
    with pytest.raises(TimeoutError, match="has not shown its stack within"):
        future.stack(timeout=0.3)
    assert 0.25 < time.monotonic() - start < 5
    os.kill(pid, signal.SIGCONT)
    stack_with(future, "spin")
    end(executor, future)


def test_a_worker_that_dies_while_it_is_asked(make_executor):
    executor = make_executor(1)
    future = begun(executor, spin)
    (pid,) = wait_busy(executor)
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    assert future.stack(timeout=10) is None
    killer.join()
    assert_usable(executor)
