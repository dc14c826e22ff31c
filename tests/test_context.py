"""What goes along with tasks unasked, warning filters, and what goes if asked for, context variables."""

import asyncio
import contextvars
import gc
import inspect
import os
import signal
import threading
import warnings
import weakref

import pytest

import context_tasks
import disttask
import tasks
from context_tasks import Fails, Odd, level, nested, see_or_fail, seen, set_and_see, user, warn, warn_odd
from disttask import _filters
from helpers import wait_busy, wait_idle


@pytest.fixture
def make(make_executor):
    return lambda *args, **kwargs: make_executor(*args, context=[user, level], **kwargs)


def within(name, call):
    """Call it where `user` is this."""
    return contextvars.copy_context().run(lambda: (user.set(name), call())[1])


# --- context variables ---


def test_values_are_those_of_the_submit(make):
    executor = make(2)
    futures = [within(f"user {n}", lambda: executor.submit(seen)) for n in range(20)]
    assert [future.result(timeout=10) for future in futures] == [(f"user {n}", 0) for n in range(20)]
    assert executor.submit(seen).result(timeout=10) == (None, 0), "it has none here"
    token = level.set(3)
    assert executor.submit(seen).result(timeout=10) == (None, 3)
    level.reset(token)


def test_each_thread_has_its_own(make):
    executor = make(2)
    found = {}

    def submit(name):
        user.set(name)
        found[name] = executor.submit(seen).result(timeout=10)

    threads = [threading.Thread(target=submit, args=(str(n),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {str(n): (str(n), 0) for n in range(8)}


def test_what_a_task_sets_ends_with_it(make):
    executor = make(1)
    assert within("a", lambda: executor.submit(set_and_see, "b")).result(timeout=10) == ("a", "b")
    assert executor.submit(set_and_see, "c").result(timeout=10) == (None, "c")
    assert executor.submit(seen).result(timeout=10) == (None, 0)


def test_options_and_tasks_that_bring_them(make, tmp_path):
    executor = make(1)
    views = [executor.options(priority=1), executor.options(retries=1).options(timeout=60, soft_timeout=30)]
    for view in views:
        assert within("a", lambda view=view: view.submit(seen)).result(timeout=10) == ("a", 0)
    for task in (disttask.task(seen), disttask.task(seen, retries=1), disttask.task(seen, soft_timeout=30)):
        for submitter in (executor, *views[:1]):
            assert within("b", lambda t=task, s=submitter: s.submit(t)).result(timeout=10) == ("b", 0)
    path = tmp_path / "runs"
    retried = executor.options(retries=2, retry_on=Fails, backoff=0.0)
    failed = within("c", lambda: retried.submit(see_or_fail, str(path)))
    with pytest.raises(Fails, match="c"):
        failed.result(timeout=10)
    assert path.read_text() == "c\n" * 3, "retries have it too"


def test_functions_by_value_futures_and_names(make):
    executor = make(1)
    assert within("a", lambda: executor.submit(lambda n: (context_tasks.seen(), n), 1)).result(timeout=10) == (
        ("a", 0),
        1,
    )
    first = executor.submit(tasks.add, 1, 1)
    assert within("a", lambda: executor.submit(tasks.add, first, executor.put(5))).result(timeout=10) == 7
    running = executor.submit(tasks.sleep, 60)
    wait_busy(executor)
    assert executor.status()["workers"][0]["task"]["name"] == "sleep"
    assert running.kill()


@pytest.mark.parametrize("how", [{}, {"chunksize": 3}, {"ordered": False}, {"buffersize": 2}], ids=repr)
@pytest.mark.parametrize("options", [{}, {"retries": 1}, {"soft_timeout": 30}], ids=repr)
def test_map_has_the_values_of_its_call(make, how, options):
    executor = make(2)
    submitter = executor.options(**options) if options else executor
    results = within("a", lambda: submitter.map(seen, range(50), **how))
    later = within("b", lambda: submitter.map(seen, range(50), **how))
    assert list(results) == [("a", 0)] * 50
    assert list(later) == [("b", 0)] * 50


def test_relatives_of_map(make):
    executor = make(2)

    async def main():
        results = within("a", lambda: executor.amap(seen, range(5)))
        return [value async for value in results]

    assert asyncio.run(main()) == [("a", 0)] * 5
    assert list(within("a", lambda: executor.starmap(seen, [(1, 2)] * 3))) == [("a", 0)] * 3
    assert list(within("a", lambda: executor.map_unordered(seen, range(3)))) == [("a", 0)] * 3


def test_tasks_of_tasks(make):
    executor = make(2)
    submitted, mapped, by_module, after = within("a", lambda: executor.submit(nested, executor)).result(timeout=20)
    assert submitted == ("a", 99)
    assert mapped == [("a", 99)] * 2
    assert by_module == ("a", 99)
    assert after == ("a", 0)


def test_new_workers_have_it_too(make):
    executor = make(1)
    (pid,) = wait_idle(executor)
    os.kill(pid, signal.SIGKILL)
    assert within("a", lambda: executor.submit(seen)).result(timeout=10) == ("a", 0)
    executor.restart(wait=True)
    assert within("b", lambda: executor.submit(nested, executor)).result(timeout=10)[0] == ("b", 99)


def test_a_worker_that_dies_with_it(make):
    executor = make(1)
    future = within("a", lambda: executor.options(retries=1).submit(seen))
    assert future.result(timeout=10) == ("a", 0)
    crashed = within("a", lambda: executor.submit(tasks.kill_myself))
    assert isinstance(crashed.exception(timeout=10), disttask.WorkerCrashed)
    assert "kill_myself" in str(crashed.exception())


def test_a_value_that_cannot_be_pickled_says_so(make):
    executor = make(1)
    future = within(threading.Lock(), lambda: executor.submit(seen))
    message = r"context variable 'user' \(of type lock\) cannot be pickled, so the task cannot be sent to a worker"
    with pytest.raises(disttask.SerializationError, match=message):
        future.result(timeout=10)
    with pytest.raises(
        disttask.SerializationError, match=r"context variable 'user' \(of type lock\) cannot be pickled"
    ):
        within(threading.Lock(), lambda: executor.options(retries=1, retry_on=Fails).submit(seen)).result(timeout=10)
    with pytest.raises(
        disttask.SerializationError, match=r"context variable 'user' \(of type lock\) cannot be pickled"
    ):
        within(threading.Lock(), lambda: executor.map(seen, range(3)))
    assert executor.submit(seen).result(timeout=10) == (None, 0)


def test_a_variable_under_another_name(make_executor):
    executor = make_executor(1, context=[context_tasks.renamed])
    token = context_tasks.renamed.set("x")
    assert executor.submit(context_tasks.seen_name).result(timeout=10) == "x"
    context_tasks.renamed.reset(token)


def test_what_is_no_variable_or_not_to_be_found():
    for wrong in (user, "user", ["user"], [user, 1]):
        with pytest.raises(TypeError, match="context must"):
            disttask.Executor(1, context=wrong)
    with pytest.raises(ValueError, match="'hidden' is a global of no imported module"):
        disttask.Executor(1, context=[contextvars.ContextVar("hidden")])


def test_a_variable_of_main_is_refused(run_script):
    source = """
import contextvars, disttask
mine = contextvars.ContextVar("mine")
try:
    disttask.Executor(1, context=[mine])
except ValueError as exc:
    print(exc)
"""
    assert "(__main__ is another one in a worker)" in run_script(source).out


def test_without_variables_submit_stays_native(make_executor, make):
    assert type(make_executor(1)) is disttask.Executor
    assert type(make_executor(1, context=[])) is disttask.Executor
    assert not inspect.isfunction(disttask.Executor.submit)
    executor = make(1)
    assert isinstance(executor, disttask.Executor)
    assert type(executor).__name__ == "Executor"
    assert repr(executor) == "<disttask.Executor max_workers=1>"
    with pytest.raises(TypeError, match="submit needs a callable, not int"):
        executor.submit(1)
    with pytest.raises(TypeError, match="map needs a callable, not int"):
        executor.map(1, [2])


def test_a_class_of_ones_own(make_executor, monkeypatch):
    class Mine(disttask.Executor):
        def submit(self, fn, /, *args, **kwargs):
            calls.append(fn.func.__name__)
            return super().submit(fn, *args, **kwargs)

    calls = []
    monkeypatch.setattr(disttask, "Executor", Mine)
    executor = make_executor(1, context=[user])
    assert isinstance(executor, Mine)
    assert within("a", lambda: executor.submit(seen)).result(timeout=10) == ("a", 0)
    assert calls == ["seen"]


def test_a_dropped_executor_with_variables_is_gone_at_once():
    gc.disable()
    try:
        executor = disttask.Executor(1, context=[user])
        gone = weakref.ref(executor)
        future = contextvars.copy_context().run(executor.submit, seen)
        del executor
        assert gone() is None
        assert future.result(timeout=10) == (None, 0)
    finally:
        gc.enable()


# --- warning filters ---


@pytest.fixture
def fresh_filters():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        yield


@pytest.mark.usefixtures("fresh_filters")
def test_filters_are_those_of_the_host(make_executor):
    warnings.simplefilter("ignore", UserWarning)
    warnings.filterwarnings("error", "an? .*odd", Odd)
    warnings.filterwarnings("always", "EXACT", Odd)
    warnings.filterwarnings("error", category=RuntimeWarning, module="no_such_module")
    executor = make_executor(1)
    assert executor.submit(warn, UserWarning).result(timeout=10) == []
    for text in ("an odd", "a very odd"):
        assert executor.submit(warn_odd, text).result(timeout=10) == f"raised {text}"
    assert executor.submit(warn_odd, "exact, in any case").result(timeout=10) == ["exact, in any case"]
    assert executor.submit(warn_odd, "other").result(timeout=10) == []
    assert executor.submit(warn, RuntimeWarning, "x").result(timeout=10) == ["x"]
    mine = [(action, category.__name__, line) for action, _, category, _, line in warnings.filters]
    assert executor.submit(context_tasks.filters).result(timeout=10) == mine


@pytest.mark.usefixtures("fresh_filters")
def test_they_are_taken_when_workers_are_started(make_executor):
    executor = make_executor(1)
    assert executor.submit(warn_odd).result(timeout=10) == ["odd"]
    warnings.simplefilter("error")
    assert executor.submit(warn_odd).result(timeout=10) == ["odd"], "a worker that runs keeps its own"
    executor.restart(wait=True)
    assert executor.submit(warn_odd).result(timeout=10) == "raised odd"
    (pid,) = wait_idle(executor)
    os.kill(pid, signal.SIGKILL)
    assert executor.submit(warn_odd).result(timeout=10) == "raised odd", "as its replacement"


@pytest.mark.usefixtures("fresh_filters")
def test_a_class_by_value_and_a_filter_that_nobody_knows(make_executor):
    class Local(UserWarning):
        pass

    warnings.simplefilter("error", Local)
    warnings.filters.insert(0, ("ignore", object(), Local, None, 0))
    try:
        executor = make_executor(1)
    finally:
        del warnings.filters[0]
    assert executor.submit(warn, Local).result(timeout=10) == "raised odd"


@pytest.mark.usefixtures("fresh_filters")
def test_an_initializer_has_the_last_word(make_executor):
    warnings.simplefilter("error")
    executor = make_executor(1, initializer=warnings.simplefilter, initargs=("ignore",))
    assert executor.submit(warn_odd).result(timeout=10) == []


@pytest.mark.usefixtures("fresh_filters")
def test_a_pool_within_a_task_has_them_too(make_executor):
    def inner():
        with disttask.Executor(1) as executor:
            return executor.submit(warn_odd, "an odd").result(timeout=10)

    warnings.filterwarnings("error", "an? .*odd", Odd)
    assert make_executor(1).submit(inner).result(timeout=20) == "raised an odd"


def test_flags_and_what_was_set_later(run_script):
    """``-W`` stands behind what was set at run time, as it does here."""
    source = """
import sys, warnings
import context_tasks, disttask
warnings.filterwarnings("ignore", category=context_tasks.Odd)
with disttask.Executor(1) as executor:
    print(executor.submit(context_tasks.warn_odd).result(), executor.submit(context_tasks.warn, UserWarning).result())
    print(executor.submit(context_tasks.filters).result() == context_tasks.filters())
"""
    assert run_script(source, flags=["-W", "error"]).out == "[] raised odd\nTrue\n"


def test_a_worker_of_a_host_that_has_set_nothing_imports_nothing_for_it(run_script):
    source = """
import disttask, sys
with disttask.Executor(1) as executor:
    names = executor.submit(eval, "list(__import__('sys').modules)").result()
print("disttask._filters" in names, "disttask._context" in names, "re" in names)
"""
    assert run_script(source).out == "False False False\n"


def test_filters_that_only_a_lock_s_holder_may_change():
    """As from Python 3.14 on."""
    said = []

    class Native:
        def __getattr__(self, name):
            if name == "_filters_mutated":
                raise AttributeError(name)
            return lambda: said.append(name)

    _filters._say_so(Native())
    assert said == ["_acquire_lock", "_filters_mutated_lock_held", "_release_lock"]
