"""`initializer` and `initargs`: what they may be, when they run, and what follows when they fail."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

import disttask
import start_tasks
from helpers import assert_usable, wait_busy, wait_idle, wait_until, workers_in
from tasks import DEATHS, pid_of_worker, sleep, wait_for_file


def test_it_has_run_before_the_first_task_of_each_worker(make_executor):
    executor = make_executor(2, None, start_tasks.keep, ("a", 1))
    for _ in range(20):
        value, number, pid = executor.submit(start_tasks.kept).result(timeout=20)[-1]
        assert (value, number) == ("a", 1)
        assert pid in wait_idle(executor)
    assert len(executor.submit(start_tasks.kept).result()) == 1, "once"


def test_it_runs_in_the_worker_that_takes_a_dead_ones_place(make_executor):
    executor = make_executor(1, initializer=start_tasks.keep, initargs=("again",))
    with pytest.raises(disttask.WorkerCrashed):
        executor.submit(DEATHS["kill"]).result(timeout=20)
    assert executor.submit(start_tasks.kept).result(timeout=20)[0][0] == "again"


def test_a_lambda_and_what_it_captures(make_executor):
    number = 41
    executor = make_executor(1, initializer=lambda add: start_tasks.take(number + add), initargs=(1,))
    assert executor.submit(start_tasks.kept).result(timeout=20) == [42]


def test_it_may_take_as_long_as_it_takes(make_executor, tmp_path):
    executor = make_executor(1, initializer=start_tasks.slowly, initargs=(str(tmp_path / "go"),))
    future = executor.submit(start_tasks.kept)
    with pytest.raises(TimeoutError):
        future.result(timeout=0.5)
    assert workers_in(executor, "starting")
    (tmp_path / "go").touch()
    assert future.result(timeout=20) == ["slow"]


def test_a_worker_that_is_killed_in_the_middle_of_it_is_replaced(make_executor, tmp_path):
    executor = make_executor(1, initializer=start_tasks.slowly, initargs=(str(tmp_path / "go"),))
    (worker,) = wait_until(lambda: [w for w in workers_in(executor, "starting") if w["pid"]])
    os.kill(worker["pid"], signal.SIGKILL)
    (tmp_path / "go").touch()
    assert executor.submit(start_tasks.kept).result(timeout=20) == ["slow"]


def test_classes_and_functions_come_back_from_a_worker_whose_globals_it_has_set(run_script):
    run_script("""
import disttask

class Point:
    def __init__(self, x):
        self.x = x

TABLE = {}

def fill():
    TABLE["filled"] = True

def made():
    return Point(1), lambda: TABLE

with disttask.Executor(1, initializer=fill) as executor:
    point, look = executor.submit(made).result()
    assert point.x == 1 and type(point) is Point and look() == {"filled": True}
""")


def test_globals_of_main_that_it_sets_are_there_for_the_tasks(run_script):
    """As with ProcessPoolExecutor, though functions of ``__main__`` travel by value."""
    assert run_script(GLOBALS).out.split() == ["model", "5", "2", "[1,", "9]", "1", "host"]


GLOBALS = """
import disttask

model = None
cache = {}
numbers = [1]
unseen = 1

def helper():
    global late
    late = 5

def initialize(value):
    global model
    model = value
    cache["a"] = 2
    numbers.append(9)
    helper()

def task(name):
    return eval(name, globals(), dict(model=model, cache=cache, numbers=numbers, late=late, unseen=unseen))

with disttask.Executor(1, initializer=initialize, initargs=("model",)) as executor:
    for name in ("model", "late", "cache['a']", "numbers", "unseen"):
        print(executor.submit(task, name).result())
    unseen = "host"
    print(executor.submit(task, "unseen").result())
"""


@pytest.mark.parametrize("failing", [start_tasks.fail, start_tasks.leave])
def test_where_it_fails_the_pool_is_broken_at_once_and_says_why(make_executor, failing, caplog):
    initargs = ("cannot load the model",) if failing is start_tasks.fail else ()
    executor = make_executor(2, initializer=failing, initargs=initargs)
    with pytest.raises(disttask.PoolBroken) as caught:
        executor.submit(pow, 2, 3).result(timeout=20)
    text = str(caught.value)
    assert "initializer failed" in text
    assert "start_tasks.py" in text, "the traceback"
    assert ("ValueError: cannot load the model" if initargs else "SystemExit: 3") in text
    assert isinstance(caught.value, BrokenExecutor)
    assert not isinstance(caught.value, disttask.WorkerCrashed)
    with pytest.raises(BrokenProcessPool):
        executor.submit(pow, 2, 3)
    assert text.partition("\n")[0] in executor.status()["broken"]
    executor.shutdown()
    assert "Exception in initializer:" in caplog.text


@pytest.mark.parametrize(
    ("how", "logged", "text"),
    [
        ({"initializer": start_tasks.fail, "initargs": ("no model",)}, "initializer: ValueError: no model", ""),
        ({"preload": ["not_there"]}, "import of not_there: ModuleNotFoundError: No module", "which preload names"),
        ({"initializer": start_tasks.fail_without_words}, "initializer: Wordless: (its str() raises)", "Wordless"),
    ],
    ids=["raises", "preload", "its str raises"],
)
def test_its_traceback_is_told_once_and_without_frames_of_ours(run_script, how, logged, text):
    """By the exception that everybody gets; what is logged is a line of it."""
    ended = run_script(FAILS.format(how=", ".join(f"{name}={shown(value)}" for name, value in how.items())))
    assert f"Exception in {logged}" in ended.err
    assert "Traceback" not in ended.err
    assert text in ended.out
    assert ended.out.count("Traceback") == ("initializer" in how)
    assert "_worker.py" not in ended.out


def shown(value):
    return f"start_tasks.{value.__name__}" if callable(value) else repr(value)


FAILS = """
import disttask, start_tasks

executor = disttask.Executor(1, {how})
print(executor.submit(abs, -1).exception())
executor.shutdown()
"""


def test_what_it_prints_is_seen_and_is_no_tasks(make_executor, capsys):
    executor = make_executor(1, initializer=start_tasks.say, initargs=("from the initializer",))
    future = executor.submit(print, "from the task")
    future.result(timeout=20)
    assert future.output() == "from the task\n"
    shown = capsys.readouterr().out
    for text in ("descriptor\n", "from the initializer\n", "half a line", "from the task\n"):
        assert text in shown


def test_what_one_that_fails_prints_is_seen(make_executor, capsys):
    executor = make_executor(1, initializer=start_tasks.say_and_fail, initargs=("why it fails",))
    with pytest.raises(disttask.PoolBroken):
        executor.submit(pow, 2, 3).result(timeout=20)
    executor.shutdown()
    assert "why it fails" in capsys.readouterr().out


def test_it_logs_where_process_pool_executor_logs():
    """As CPython's own test wants it: through the logger ``concurrent.futures`` of the worker."""
    queue = multiprocessing.get_context("spawn").Queue()
    with disttask.Executor(1, initializer=log_and_fail, initargs=(queue,)) as executor:
        with pytest.raises(disttask.PoolBroken):
            executor.submit(pow, 2, 3).result(timeout=20)
    assert "ValueError: error in initializer" in queue.get(timeout=5)
    queue.close()
    queue.join_thread()


def log_and_fail(queue):
    import logging
    from logging.handlers import QueueHandler

    class Texts(QueueHandler):
        def prepare(self, record):
            return self.format(record)

    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(Texts(queue))
    logger.propagate = False
    raise ValueError("error in initializer")


def test_what_runs_elsewhere_is_cut_off_when_a_later_worker_cannot_be_made_ready(make_executor, tmp_path):
    mark = tmp_path / "fail from now on"
    executor = make_executor(2, initializer=start_tasks.fail_if_exists, initargs=(str(mark),))
    wait_idle(executor)
    running = executor.submit(sleep, 60)
    wait_busy(executor)
    mark.touch()
    crashed = executor.submit(DEATHS["kill"])
    with pytest.raises(disttask.WorkerCrashed):
        crashed.result(timeout=20)
    with pytest.raises(disttask.PoolBroken, match="the second time"):
        running.result(timeout=20)


def test_one_that_ends_the_process_breaks_the_pool_after_some_tries(make_executor):
    executor = make_executor(1, initializer=start_tasks.die)
    with pytest.raises(disttask.PoolBroken, match="exited with status 3"):
        executor.submit(pow, 2, 3).result(timeout=30)


def test_shutdown_does_not_wait_for_it(make_executor, tmp_path):
    executor = make_executor(1, initializer=start_tasks.slowly, initargs=(str(tmp_path / "never"),))
    wait_until(lambda: [w for w in workers_in(executor, "starting") if w["pid"]])
    started = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("wrong", [1, "initializer"])
def test_it_must_be_callable(wrong):
    with pytest.raises(TypeError, match="initializer must be a callable"):
        disttask.Executor(1, initializer=wrong)


def test_what_cannot_be_pickled_is_said_before_anything_starts():
    with pytest.raises(disttask.SerializationError, match=r"initializer, its arguments or the finalizer.*lock"):
        disttask.Executor(1, initializer=print, initargs=(threading.Lock(),))
    with pytest.raises(pickle.PicklingError):
        disttask.Executor(1, initializer=print, initargs=(sys._getframe(),))


# --- the other arguments of ProcessPoolExecutor ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_mp_context_is_taken(make_executor, method):
    executor = make_executor(1, multiprocessing.get_context(method))
    assert executor._mp_context.get_start_method() == method
    assert_usable(executor)


def test_multiprocessing_itself_is_a_context(make_executor):
    assert_usable(make_executor(1, mp_context=multiprocessing))


def test_another_mp_context_is_an_error():
    with pytest.raises(TypeError, match=r"get_context\('spawn'\)"):
        disttask.Executor(1, "spawn")


def test_arguments_stand_where_process_pool_executor_has_them(make_executor):
    executor = make_executor(2, None, start_tasks.take, ("x",), max_tasks_per_child=1000)
    assert executor._max_workers == 2
    assert executor.submit(start_tasks.kept).result(timeout=20) == ["x"]
    with pytest.raises(TypeError):
        disttask.Executor(2, None, start_tasks.take, ("x",), 1000)


def test_a_crash_and_a_broken_pool_are_what_handlers_for_broken_process_pool_catch(executor):
    with pytest.raises(BrokenProcessPool):
        executor.submit(DEATHS["kill"]).result(timeout=20)
    assert_usable(executor)
    for kind in (disttask.WorkerCrashed, disttask.PoolBroken, disttask.PoolShutdown):
        assert issubclass(kind, BrokenProcessPool)
    assert not issubclass(disttask.WorkerCrashed, disttask.PoolBroken)


def test_so_it_is_where_broken_process_pool_is_imported_later(run_script):
    assert run_script(LATE).out.split() == ["False", "caught"]


LATE = """
import os, sys, disttask
with disttask.Executor(1) as executor:
    future = executor.submit(os._exit, 3)
    future.exception()
    print("concurrent.futures.process" in sys.modules)
    from concurrent.futures.process import BrokenProcessPool
    try:
        future.result()
    except BrokenProcessPool:
        print("caught")
"""


def test_code_that_names_the_module_without_importing_it_finds_it(run_script):
    """To use `ProcessPoolExecutor` imports it, and such code has used that before."""
    assert run_script(NAMED).out.split() == ["False", "ValueError", "True", "caught", "AttributeError"]


NAMED = """
import concurrent.futures, os, sys, disttask
with disttask.Executor(1) as executor:
    print("concurrent.futures.process" in sys.modules)
    for task in (executor.submit(int, "x"), executor.submit(os._exit, 3)):
        try:
            task.result()
        except concurrent.futures.process.BrokenProcessPool:
            print("caught")
        except ValueError:
            print("ValueError")
            print("concurrent.futures.process" in sys.modules)
try:
    concurrent.futures.no_such_thing
except AttributeError as exc:
    assert str(exc) == "module 'concurrent.futures' has no attribute 'no_such_thing'", exc
    print("AttributeError")
assert concurrent.futures.ProcessPoolExecutor is concurrent.futures.process.ProcessPoolExecutor
assert concurrent.futures.ThreadPoolExecutor(1).submit(abs, -1).result() == 1
"""


# --- cancel_futures while workers start ------------------------------------------------------------------------------


def test_a_cancelling_shutdown_leaves_one_task_to_each_worker_that_starts(make_executor):
    executor = make_executor(2)
    futures = [executor.submit(pow, number, 2) for number in range(20)]
    executor.shutdown(cancel_futures=True)
    done = [future for future in futures if not future.cancelled()]
    assert [future.result(timeout=0) for future in done] == [number**2 for number in range(len(done))]
    assert 1 <= len(done) <= 20
    assert all(future.done() for future in futures)


def test_but_no_more_than_that(make_executor, tmp_path):
    executor = make_executor(2, initializer=start_tasks.slowly, initargs=(str(tmp_path / "go"),))
    futures = [executor.submit(pid_of_worker) for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False] * 2 + [True] * 18
    (tmp_path / "go").touch()
    assert {type(future.result(timeout=20)) for future in futures[:2]} == {int}


def test_and_none_where_all_workers_are_there(make_executor, tmp_path):
    executor = make_executor(2)
    wait_idle(executor)
    running = [executor.submit(wait_for_file, str(tmp_path / "go")) for _ in range(2)]
    wait_busy(executor, 2)
    waiting = [executor.submit(pow, 2, 3) for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    (tmp_path / "go").touch()
    assert [future.result(timeout=20) for future in running] == [None, None]
