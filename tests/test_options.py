"""`options(...)` beyond the time-out: retries on exceptions, backoff, crash limit, names; `disttask.task` with them."""

import os
import time

import pytest

import disttask
import tasks
from helpers import assert_usable, wait_busy, wait_until
from tasks import lines, log


class Passing(Exception):
    """Defined here, so that it is found by name."""


def fail_until(path, runs, kind=Passing):
    """Raise until it is run for the n-th time."""
    log(path, "run")
    if len(lines(path)) < runs:
        raise kind(len(lines(path)))
    return len(lines(path))


def log_and_die(path):
    log(path, "run")
    os._exit(9)


def is_passing(exc):
    return isinstance(exc, Passing)


def quick(executor, **options):
    return executor.options(backoff=0.001, **options)


@pytest.mark.parametrize("retry_on", [Passing, (KeyError, Passing), Exception, is_passing, lambda exc: True])
def test_an_exception_is_tried_again(executor, tmp_path, retry_on):
    options = quick(executor, retries=3, retry_on=retry_on)
    assert options.submit(fail_until, tmp_path / "submit", 3).result(timeout=10) == 3
    assert list(options.map(fail_until, [tmp_path / "map"], [4])) == [4]
    totals = executor.status()["totals"]
    assert (totals["submitted"], totals["succeeded"], totals["failed"], totals["retried"]) == (2, 2, 0, 5)


def test_who_waits_for_its_value_waits_for_the_attempt_that_has_one(executor, tmp_path):
    future = quick(executor, retries=2, retry_on=Passing).submit(fail_until, tmp_path / "runs", 3)
    assert executor.submit(tasks.double, future).result(timeout=10) == 6


def test_when_the_retries_are_over_the_last_one_is_raised(executor, tmp_path):
    future = quick(executor, retries=2, retry_on=Passing).submit(fail_until, tmp_path / "runs", 100)
    exc = future.exception(timeout=10)
    assert type(exc) is Passing
    assert exc.args == (3,)
    assert isinstance(exc.__cause__, disttask.RemoteTraceback)
    assert "in fail_until" in str(exc.__cause__)
    assert "disttask/_options" not in str(exc.__cause__)
    assert len(lines(tmp_path / "runs")) == 3
    with pytest.raises(Passing):
        list(quick(executor, retries=2, retry_on=Passing).map(fail_until, [tmp_path / "map"], [100]))
    assert len(lines(tmp_path / "map")) == 3


def test_other_exceptions_are_answers(executor, tmp_path):
    future = quick(executor, retries=5, retry_on=KeyError).submit(fail_until, tmp_path / "runs", 100)
    assert type(future.exception(timeout=10)) is Passing
    assert lines(tmp_path / "runs") == ["run"]


def test_a_class_of_main_is_told(run_script):
    ended = run_script("""
import disttask, tempfile, os
class Mine(Exception): pass
def shaky(path):
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise Mine
    return os.path.getsize(path)
with disttask.Executor(1) as executor, tempfile.TemporaryDirectory() as folder:
    options = executor.options(retries=5, retry_on=Mine, backoff=0)
    print(options.submit(shaky, folder + "/a").result(), list(options.map(shaky, [folder + "/b"])))
""")
    assert ended.out == "3 [3]\n"


def test_retry_on_covers_time_outs_where_the_class_does(make_executor):
    """Counted by the executor: what a busy machine does not even begin in time goes back for free."""
    for kind, retried in ((TimeoutError, 2), (disttask.TaskTimeout, 2), (ValueError, 0)):
        executor = make_executor(1)
        future = quick(executor, retries=2, timeout=0.3, retry_on=kind).submit(tasks.sleep, 60)
        assert type(future.exception(timeout=30)) is disttask.TaskTimeout
        assert executor.status()["totals"]["retried"] == retried


def test_retries_on_exceptions_and_on_deaths_share_the_count(executor, tmp_path):
    def raise_then_die(path):
        log(path, "run")
        if len(lines(path)) == 1:
            raise Passing
        os._exit(9)

    future = quick(executor, retries=2, retry_on=Passing).submit(raise_then_die, tmp_path / "runs")
    assert isinstance(future.exception(timeout=10), disttask.WorkerCrashed)
    assert len(lines(tmp_path / "runs")) == 3


def test_crash_limit(executor, tmp_path):
    future = quick(executor, retries=50, crash_limit=2).submit(log_and_die, tmp_path / "runs")
    assert isinstance(future.exception(timeout=10), disttask.WorkerCrashed)
    assert len(lines(tmp_path / "runs")) == 2
    assert_usable(executor)


def test_backoff_is_waited_for(executor, tmp_path):
    """A wait is random below its bound, so only what is certain is asked for: with 0 there is none."""
    started = time.monotonic()
    options = executor.options(retries=30, retry_on=Passing, backoff=0)
    assert options.submit(fail_until, tmp_path / "at once", 30).result(timeout=20) == 30
    assert time.monotonic() - started < 10  # thirty waits of the default take minutes
    long = executor.options(retries=1, retry_on=Passing, backoff=(3600, 7200))
    future = long.submit(fail_until, tmp_path / "later", 2)
    wait_until(lambda: executor.status()["totals"]["retried"] == 30, 10, "it waits")
    assert not future.running()
    assert not future.done()
    assert future.cancel()


def test_a_retry_does_not_hold_its_worker(make_executor, tmp_path):
    executor = make_executor(1)
    waiting = executor.options(retries=1, retry_on=Passing, backoff=(3600, 3600)).submit(fail_until, tmp_path / "r", 2)
    assert_usable(executor)
    assert waiting.kill()
    assert waiting.cancelled()


def test_large_arguments_are_there_again(executor, tmp_path):
    """They stand in shared memory, and what the first attempt wrote to them must not be seen."""

    def shaky(data, path):
        log(path, "run")
        assert bytes(data) == bytes(10**6), "somebody wrote to it"
        data[0] = 1
        if len(lines(path)) < 3:
            raise Passing
        return len(data)

    options = quick(executor, retries=3, retry_on=Passing)
    assert options.submit(shaky, bytearray(10**6), tmp_path / "runs").result(timeout=10) == 10**6


def test_names_and_tags_are_shown(executor, tmp_path):
    options = executor.options(name="nightly import", tags=["etl", "2026"], timeout=30)
    go = tmp_path / "go"
    future = options.submit(tasks.wait_for_file, go, "done")
    wait_busy(executor)
    (task,) = [worker["task"] for worker in executor.status()["workers"] if worker["task"]]
    assert (task["name"], task["tags"], task["attempt"]) == ("nightly import", ["etl", "2026"], 1)
    go.touch()
    assert future.result(timeout=10) == "done"
    exc = options.submit(tasks.exit_seven).exception(timeout=10)
    assert (exc.name, exc.tags) == ("nightly import", ("etl", "2026"))
    assert "nightly import" in str(exc)
    plain = executor.submit(tasks.exit_seven).exception(timeout=10)
    assert (plain.name, plain.tags) == ("exit_seven", ())


def test_a_task_brings_its_options(executor, tmp_path):
    @disttask.task(retries=4, retry_on=Passing, backoff=0, name="brought")
    def shaky(path, runs):
        return fail_until(path, runs)

    assert executor.submit(shaky, tmp_path / "submit", 3).result(timeout=10) == 3
    assert executor.submit(shaky, tmp_path / "keyword", runs=2).result(timeout=10) == 2
    assert list(executor.map(shaky, [tmp_path / "map"], [5])) == [5]
    assert executor.options(priority=3).submit(shaky, tmp_path / "with more", 5).result(timeout=10) == 5
    # What is given at the call goes first.
    exc = executor.options(retries=1).submit(shaky, tmp_path / "fewer", 5).exception(timeout=10)
    assert type(exc) is Passing
    assert len(lines(tmp_path / "fewer")) == 2
    assert shaky(tmp_path / "here", 1) == 1, "it can be called as it is"
    assert shaky.__name__ == "shaky"

    @disttask.task(timeout=0.2, name="slow")
    def slow():
        tasks.spin()

    exc = executor.submit(slow).exception(timeout=10)
    assert type(exc) is disttask.TaskTimeout
    assert exc.name == "slow"


def test_no_retries_any_more_takes_along_what_was_said_about_them(executor):
    patient = quick(executor, retries=5, retry_on=Passing)
    once = patient.options(retries=0)
    assert type(once.submit(tasks.fail, Passing).exception(timeout=10)) is Passing
    assert executor.status()["totals"]["retried"] == 0
    assert "backoff" not in repr(once)
    with pytest.raises(ValueError, match="backoff needs retries=n"):
        patient.options(retries=0, backoff=1)
    with pytest.raises(ValueError, match="retry_on needs retries=n"):
        patient.options(retries=0, retry_on=Passing)
    with pytest.raises(ValueError, match="backoff needs retries=n"):
        executor.options(backoff=1)


def test_the_module_functions_take_them(run_script):
    ended = run_script("""
import disttask, tasks
@disttask.task(timeout=0.2, name="mine", tags=["a"])
def slow():
    tasks.spin()
if __name__ == "__main__":
    for future in (disttask.submit(slow), disttask.options(timeout=0.2, name="mine", tags=["a"]).submit(tasks.spin)):
        exc = future.exception()
        print(type(exc).__name__, exc.name, exc.tags)
    future = disttask.options(retries=1, retry_on=ValueError, backoff=0).submit(tasks.fail, ValueError, "no")
    print(repr(future.exception()), disttask.status()["totals"]["retried"])
""")
    assert ended.out == "TaskTimeout mine ('a',)\n" * 2 + "ValueError('no') 1\n"


def test_an_executor_that_is_dropped_stops_though_it_knew_tasks(run_script):
    """Nothing of what is kept for such a task may keep the executor."""
    ended = run_script("""
import disttask, gc, tasks, weakref
gc.disable()
executor = disttask.Executor(1)
print(executor.submit(disttask.task(tasks.add, retries=1), 1).result())
gone = weakref.ref(executor)
del executor
print(gone())
""")
    assert ended.out == "2\nNone\n"


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"retry": 3}, TypeError, "no option 'retry': there are .*retries"),
        ({"retry_on": ValueError}, ValueError, "retries"),
        ({"retries": 1, "retry_on": "ValueError"}, TypeError, "exception class"),
        ({"retries": 1, "retry_on": int}, TypeError, "exception class"),
        ({"retries": 1, "retry_on": (ValueError, int)}, TypeError, "exception class"),
        ({"retries": 1, "retry_on": [ValueError]}, TypeError, "exception class"),
        ({"backoff": -1}, ValueError, "backoff"),
        ({"backoff": (2, 1)}, ValueError, "backoff"),
        ({"backoff": (1, 2, 3)}, TypeError, "backoff"),
        ({"backoff": "1"}, TypeError, "backoff"),
        ({"backoff": True}, TypeError, "backoff"),
        ({"backoff": float("nan")}, ValueError, "backoff"),
        ({"backoff": float("inf")}, ValueError, "backoff"),
        ({"backoff": 1e9}, ValueError, "backoff"),
        ({"backoff": 3}, ValueError, "backoff needs retries=n"),
        ({"crash_limit": 0}, ValueError, "crash_limit"),
        ({"crash_limit": 1.5}, TypeError, "crash_limit"),
        ({"name": ""}, ValueError, "name"),
        ({"name": "x" * 256}, ValueError, "name"),
        ({"name": b"x"}, TypeError, "name"),
        ({"tags": "etl"}, TypeError, "tags=\\['etl'\\]"),
        ({"tags": [1]}, TypeError, "tags"),
        ({"tags": [""]}, ValueError, "tag"),
        ({"tags": ["x"] * 17}, ValueError, "tags"),
        ({"kill_on_cancel": 1}, TypeError, "kill_on_cancel"),
    ],
)
def test_bad_options_are_refused(executor, options, error, text):
    for refuse in (executor.options, disttask.options, disttask.task, executor.options().options):
        with pytest.raises(error, match=text):
            refuse(**options)


@pytest.mark.parametrize(
    "options",
    [{"timeout": 60}, {"soft_timeout": 60}, {"retries": 1}, {"retries": 1, "retry_on": ValueError}, {"crash_limit": 2},
     {"max_memory": 2**40}],
    ids=repr,
)  # fmt: skip
def test_an_option_that_is_about_one_call_makes_each_a_task_whatever_the_chunks(executor, options):
    done = []
    for way in ({"chunksize": 5}, {"chunksize": 5, "buffersize": 2}, {"chunksize": 3, "ordered": False}):
        before = executor.status()["totals"]["submitted"]
        assert sorted(executor.options(**options).map(abs, range(-20, 0), **way)) == list(range(1, 21))
        done.append(executor.status()["totals"]["submitted"] - before)
    assert done == [20, 20, 20]


def test_a_limit_costs_the_call_that_passes_it_and_no_other_of_its_chunk(executor):
    @disttask.task(timeout=1)
    def endless_at(n):
        while n == 2:
            pass
        return n

    for limited, func in ((executor, endless_at), (executor.options(timeout=1), endless_at.func)):
        found = list(limited.map(func, range(8), chunksize=4, return_exceptions=True))
        assert type(found.pop(2)) is disttask.TaskTimeout
        assert found == [0, 1, 3, 4, 5, 6, 7]


def test_a_buffer_counts_chunks_all_the_same(executor):
    read = []
    numbers = (read.append(n) or n for n in range(1000))
    results = executor.options(timeout=60).map(abs, numbers, buffersize=3, chunksize=5)
    assert next(results) == 0
    assert 5 < len(read) <= 16
    results.close()


def test_priority_and_name_leave_chunks_alone(executor):
    before = executor.status()["totals"]["submitted"]
    assert list(executor.options(priority=1, name="x").map(abs, range(20), chunksize=5)) == list(range(20))
    assert executor.status()["totals"]["submitted"] - before == 4


def test_reprs_say_the_options():
    def func():
        pass

    assert repr(disttask.task(abs)) == "<disttask.Task abs>"
    task = disttask.task(func, retries=2, name="x")
    assert repr(task) == "<disttask.Task test_reprs_say_the_options.<locals>.func with name='x', retries=2>"
    with disttask.Executor(1) as executor:
        assert repr(executor.options()) == "<disttask.Submitter of <disttask.Executor max_workers=1>>"
        careful = executor.options(timeout=3, tags=["a"])
        assert repr(careful) == "<disttask.Submitter of <disttask.Executor max_workers=1> with tags=('a',), timeout=3>"
