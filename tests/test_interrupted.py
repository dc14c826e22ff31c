"""Ctrl-C, or no thread to be had, between any two steps: nothing stays locked, lost or running."""

import concurrent.futures as cf
import gc
import io
import json
import logging
import sys
import threading
from collections import deque

import pytest

import disttask
import tasks
from disttask import _lifecycle, _native
from disttask._collector import Collector
from disttask._output import Outlet
from helpers import assert_usable, children, open_fds, wait_idle, wait_until
from interrupts import at_each_point


class Source:
    """Stands for a pool: what is taken from it is taken."""

    def __init__(self, pieces):
        self.pieces = deque((1, 2, "log" if raw is LOG else "stdout", raw is True, text) for raw, text in pieces)
        self.take_output = iter([*self.pieces, *[None] * 1000]).__next__  # of C, like the pool's own

    def wait_output(self):
        return False

    def id_text(self, task):
        return f"run-{task}"


def in_thread(call):
    """What the call returns on another thread, which must end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(10)
    assert found, "the other thread got stuck"
    return found[0]


LOG = "log"
ZWOELF = "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf\n".encode()
PIECES = [(False, b"one\n" * 3000), (True, ZWOELF[:3]), (True, ZWOELF[3:4]), (False, ZWOELF[4:])]


@pytest.mark.parametrize("kind", ["text", "descriptor"])
def test_ctrl_c_while_output_is_shown_loses_nothing(kind, monkeypatch, tmp_path):
    """Nor does it show anything twice, or leave the lock held, at whatever point it comes."""
    path = tmp_path / "out"
    with io.StringIO() if kind == "text" else path.open("a") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert at_each_point(*showing(stream, path)) > 20
        monkeypatch.undo()


def showing(stream, path):
    """What is to be interrupted, and what checks."""

    def new():
        outlet = Outlet(Source(PIECES))
        outlet._thread = threading.main_thread()  # it has one
        return outlet

    def check():
        nonlocal outlet
        in_thread(outlet.show_now)
        assert outlet._lock.acquire(blocking=False), "another thread can have it, and so can this one"
        outlet._lock.release()
        assert not outlet._slow
        shown = path.read_text() if path.exists() else stream.getvalue()
        assert shown == b"".join(text for _, text in PIECES).decode()
        stream.seek(0)
        stream.truncate(0)
        outlet = new()

    def show():
        outlet.show_now()

    outlet = new()
    return show, check


def test_ctrl_c_while_records_are_shown_shows_each_once(monkeypatch):
    class Kept(logging.Handler):
        def __init__(self):
            super().__init__()
            self.found = []

        def emit(self, record):
            self.found.append((record.getMessage(), record.task_id))

    class Cells:
        def header(self, _task):
            return {}

    def new():
        outlet = Outlet(Source([(LOG, record(message)) for message in ("first", "second")]))
        outlet._thread = threading.main_thread()
        outlet.cells = Cells()  # as in a notebook: there are steps of ours behind the record, too
        return outlet

    def record(message):
        fields = {"name": kept.name, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
        return bytes(4) + json.dumps(fields).encode()

    def show():
        outlet.show_now()

    def check():
        nonlocal outlet
        in_thread(outlet.show_now)
        assert kept.found == [("first", "run-1"), ("second", "run-1")]
        kept.found.clear()
        outlet = new()

    kept = Kept()
    kept.name = "test_interrupted.records"
    logger = logging.getLogger(kept.name)
    monkeypatch.setattr(logger, "handlers", [kept])
    monkeypatch.setattr(logger, "propagate", False)
    outlet = new()
    assert at_each_point(show, check) > 20


def test_ctrl_c_with_the_outlets_lock_just_acquired(run_script):
    """The lock's `acquire` has it, and then raises."""
    source = """
import signal, threading
import disttask
from disttask._collector import Collector

class Lock:
    def __init__(self, real):
        self.real, self.armed = real, True
    def acquire(self, *args, **kwargs):
        got = self.real.acquire(*args, **kwargs)
        if self.armed and threading.current_thread() is threading.main_thread():
            self.armed = False
            signal.raise_signal(signal.SIGINT)
        return got
    def __getattr__(self, name):
        return getattr(self.real, name)
    def __enter__(self):
        return self.real.__enter__()
    def __exit__(self, *args):
        return self.real.__exit__(*args)

executor = disttask.Executor(1)
outlet = Collector.by_pool[executor._pool.id].outlet
lock = outlet._lock = Lock(outlet._lock)
try:
    while lock.armed:
        executor.submit(print, "hello").result()
except KeyboardInterrupt:
    print("interrupted")
executor.shutdown()
print("the end")
"""
    lines = run_script(source).out.replace("hello", "").splitlines()  # which may come in the middle of a line of ours
    assert [line for line in lines if line] == ["interrupted", "the end"]


def test_the_end_waits_no_longer_for_a_stream_that_is_stuck(make_executor, monkeypatch):
    stuck, free = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text):
            stuck.set()
            free.wait(60)
            return len(text)

    monkeypatch.setattr("disttask._output._STUCK_SECONDS", 0.2)
    executor = make_executor(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Stuck())
        future = executor.submit(print, "x")
        assert stuck.wait(10)
        try:
            executor.shutdown()
            assert not free.is_set()
        finally:
            free.set()
    assert future.result(timeout=10) is None


# --- no thread to be had ---


class NoThreads:
    """`threading.Thread`, of which some cannot be started."""

    def __init__(self, monkeypatch, name):
        self.name, self.failed = name, 0
        start = threading.Thread.start

        def failing(thread):
            if thread.name == self.name:
                self.failed += 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", failing)

    def pass_by(self):
        self.name = None


def test_a_collector_that_cannot_be_started_is_started_by_the_next(executor, monkeypatch, tmp_path):
    gate = str(tmp_path / "gate")
    first, second = (executor.submit(tasks.wait_for_file, gate, n) for n in range(2))
    shortage = NoThreads(monkeypatch, "disttask-collector")
    called = []
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            first.add_done_callback(called.append)
    shortage.pass_by()
    second.add_done_callback(called.append)
    (tmp_path / "gate").touch()
    assert cf.wait([first, second], timeout=10).not_done == set()
    wait_until(lambda: called == [second], 10, "called back")
    assert [first.result(timeout=10), second.result(timeout=10)] == [0, 1]
    executor.shutdown()


def test_a_shutdown_after_no_collector_could_be_started(executor, monkeypatch):
    shortage = NoThreads(monkeypatch, "disttask-collector")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        cf.wait([executor.submit(tasks.sleep, 0.2)])
    executor.shutdown()
    assert shortage.failed == 1
    assert _lifecycle._living.get(executor._pool.id) is None


class OfThisThread(dict):
    """Not for the collector's own thread, which may be quicker."""

    def pop(self, key, default=None):
        return super().pop(key, default) if threading.current_thread() is threading.main_thread() else default


def test_ctrl_c_in_a_callback_of_cancel_where_there_are_no_threads(executor, monkeypatch, tmp_path):
    """The callbacks behind it are called all the same, by the thread itself."""
    gate = str(tmp_path / "gate")
    held = [executor.submit(tasks.wait_for_file, gate) for _ in range(2)]
    future = executor.submit(tasks.add, 1)
    called = []

    def interrupted(_):
        raise KeyboardInterrupt

    future.add_done_callback(interrupted)
    future.add_done_callback(called.append)
    shortage = NoThreads(monkeypatch, "disttask-collector")
    collector = Collector.by_pool[executor._pool.id]
    monkeypatch.setattr(collector, "_futures", OfThisThread(collector._futures))
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert shortage.failed == 1
    assert called == [future]
    shortage.pass_by()
    (tmp_path / "gate").touch()
    for each in held:
        each.result(timeout=10)


def test_output_where_its_thread_cannot_be_started(make_executor, monkeypatch, capsys):
    shortage = NoThreads(monkeypatch, "disttask-output")
    executor = make_executor(1)
    outlet = Collector.by_pool[executor._pool.id].outlet
    executor.submit(print, "by result").result(timeout=10)
    assert capsys.readouterr().out == "by result\n"
    assert shortage.failed >= 2, "it was tried again"
    future = executor.submit(print, "by shutdown")
    wait_until(lambda: future.output() == "by shutdown\n", 10, "printed")
    executor.shutdown()
    assert capsys.readouterr().out == "by shutdown\n"
    assert outlet._thread is None


def test_output_thread_is_started_when_there_is_one(make_executor, monkeypatch, capsys):
    shortage = NoThreads(monkeypatch, "disttask-output")
    executor = make_executor(1)
    shortage.pass_by()
    executor.submit(print, "first").result(timeout=10)
    executor.submit(print, "second")
    shown = []
    wait_until(lambda: shown.append(capsys.readouterr().out) or "second\n" in "".join(shown), 10, "shown live")


# --- while an executor is made ---


def test_ctrl_c_while_an_executor_is_made_leaves_nothing():
    disttask.Executor(1).shutdown()  # so that all is imported
    gc.collect()  # what earlier tests have left is not to go meanwhile
    before = children(), set(open_fds()), set(_lifecycle._living), set(Collector.by_pool)

    def check():
        wait_until(lambda: children() <= before[0], 10, "workers gone")
        wait_until(lambda: set(open_fds()) <= before[1], 10, "descriptors closed")
        assert set(_lifecycle._living) <= before[2]
        assert set(Collector.by_pool) <= before[3]
        running = [thread.name for thread in threading.enumerate() if thread.is_alive()]
        assert "disttask-output" not in running

    def make():
        executor = disttask.Executor(1)
        sys.setprofile(None)
        executor.shutdown()

    assert at_each_point(make, check, begin="sysconf") >= 8  # which is asked right before the workers start


# --- while a call is pickled ---


def test_ctrl_c_while_futures_are_pickled_as_arguments(executor):
    """What is pickled next is no part of the call that was given up."""
    assert executor.submit(lambda: 1).result(timeout=10) == 1  # so that all is imported
    first = executor.submit(tasks.same, [1])
    ref = executor.put([2])
    add = lambda a, b: a + b  # noqa: E731 - not importable
    followers = []

    def submit():
        followers.append(executor.submit(tasks.add, first, ref))
        followers.append(executor.submit(add, first, b=ref))

    def check():
        assert _native.Pickling.call() is None

    assert at_each_point(submit, check) > 20
    for future in followers:
        assert future.result(timeout=10) == [1, 2]


class Lazy:
    """Submits a task when it is pickled."""

    def __init__(self, executor, base):
        self.executor, self.base, self.inner = executor, base, []

    def __reduce__(self):
        self.inner.append(self.executor.submit(tasks.add, self.base, 1))
        self.inner.append(self.executor.submit(lambda a, b: a + b, self.base, 1))
        self.inner.append(self.executor.submit(tasks.add, [], [self.executor.put({5}), self.executor.put(lambda: 0)]))
        self.inner.extend(self.executor.map(tasks.add, [self.executor.put([6])], [[7]]))
        return int, (0,)


@pytest.mark.parametrize("by_value", [False, True])
def test_an_argument_that_submits_when_it_is_pickled(executor, by_value):
    """Each call has its own inputs."""
    base = executor.submit(pow, 2, 3)
    lazy = Lazy(executor, base)
    add = (lambda a, b: a + b) if by_value else tasks.add
    assert executor.submit(add, base, lazy).result(timeout=10) == 8
    assert lazy.inner
    for first, second, third, mapped in zip(*[iter(lazy.inner)] * 4, strict=True):
        assert (first.result(timeout=10), second.result(timeout=10)) == (9, 9)
        assert third.result(timeout=10)[0] == {5}
        assert mapped == [6, 7]
    assert_usable(executor)
    wait_idle(executor)
