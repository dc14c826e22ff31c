"""What users read when something is wrong: the error is their own, says how often it was tried, and what to do."""

import asyncio
import concurrent.futures as cf
import functools
import inspect
import json
import os
import pickle
import re
import signal
import sys
import time

import pytest

import disttask
import tasks
from disttask import _loading, _pickling
from helpers import assert_usable


class Frozen(Exception):
    """Refuses to be written to, as an exception that is a frozen dataclass does."""

    def __setattr__(self, name, value):
        raise AttributeError(name)


class Slotted(Exception):
    """Comes back without its attributes, so without its notes."""

    def __reduce__(self):
        return Slotted, self.args


def broken_predicate(exc):
    return exc.no_such_thing


def exits(exc):
    sys.exit(3)


class AsyncCall:
    async def __call__(self):
        return 1

    async def method(self):
        return 1


class RunsItself:
    """Holds an async function, and runs it."""

    def __init__(self, func):
        self.func = func

    def __call__(self, *args):
        return asyncio.run(self.func(*args))


async def fetch(url):
    return url


def raise_from_here():
    raise ValueError("here")


def count():
    yield 1


async def acount():
    yield 1


def notes(exc):
    return getattr(exc, "__notes__", [])


def again(executor, retries=2, **options):
    return executor.options(retries=retries, backoff=0, **options)


# --- retry_on that raises -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("predicate", [broken_predicate, lambda exc: exc.no_such_thing, exits])
def test_a_predicate_that_raises_hides_nothing(executor, predicate):
    error = again(executor, retry_on=predicate).submit(tasks.fail, ValueError, "mine").exception(timeout=10)
    assert type(error) is ValueError
    assert error.args == ("mine",)
    (note,) = notes(error)
    assert note.startswith("disttask: not tried again, because retry_on raised:\n")
    assert ("SystemExit: 3" if predicate is exits else "AttributeError: 'ValueError'") in note
    assert " in matches" not in note
    assert f'File "{__file__}", line' in note
    assert executor.status()["totals"]["retried"] == 0
    assert_usable(executor, 10)


@pytest.mark.parametrize("kind", [Frozen, Slotted])
def test_its_error_is_noted_whatever_the_exception_is(executor, kind):
    error = again(executor, retry_on=broken_predicate).submit(tasks.fail, kind, "mine").exception(timeout=10)
    assert type(error) is kind
    (note,) = notes(error)
    assert "retry_on raised" in note
    assert "no attribute 'no_such_thing'" in note


def test_notes_of_the_tasks_own_stay_and_ours_come_last(executor):
    def fail_with_a_note(path):
        error = ValueError("mine")
        error.add_note("by the task")
        raise error

    def look(exc):
        raise KeyError(exc.__notes__[0])

    error = again(executor, retry_on=look).submit(fail_with_a_note, None).exception(timeout=10)
    own, ours = notes(error)
    assert own == "by the task"
    assert ours.endswith("KeyError: 'by the task'")
    assert type(pickle.loads(pickle.dumps(error)).__notes__[1]) is str


def test_an_exception_that_passes_through_two_tasks_keeps_our_notes():
    error = Frozen("mine")
    for _ in range(3):
        _pickling.add_note(error, "again")
        error = _loading.load_exception(_pickling.dump_exception("run", error))
    assert type(error) is Frozen
    assert notes(error) == ["again\nagain\nagain"]


def test_each_item_of_map_has_its_own_error(executor):
    results = again(executor, retry_on=broken_predicate).map(tasks.inverse_of_distance, [1, 2], [2, 2])
    assert next(results) == -1
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "retry_on raised" in notes(caught.value)[0]


# --- how often it was tried -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, Frozen, Slotted])
def test_the_last_exception_says_how_often_it_was_tried(executor, kind):
    error = again(executor, retry_on=Exception).submit(tasks.fail, kind, "no").exception(timeout=10)
    assert type(error) is kind
    name = kind.__qualname__ if kind is ValueError else f"{__name__}.{kind.__qualname__}"
    attempts = [f"attempt {number}: it raised {name}: no" for number in (1, 2)]
    assert notes(error) == [f"disttask: attempt 3 of 3; {'; '.join(attempts)}"]


def test_what_was_tried_once_says_nothing(executor):
    for options in (executor, again(executor), again(executor, retry_on=KeyError)):
        error = options.submit(tasks.fail, ValueError, "no").exception(timeout=10)
        assert notes(error) == []
    late = executor.options(timeout=0.1).submit(tasks.sleep, 60).exception(timeout=20)
    assert "attempt" not in str(late)


def test_an_exception_after_a_crash_says_what_came_before(executor, tmp_path):
    error = again(executor, retries=4).submit(tasks.die_then_raise, tmp_path / "runs").exception(timeout=20)
    assert type(error) is ValueError
    (note,) = notes(error)
    assert note.startswith("disttask: attempt 2 of 5; attempt 1: worker pid ")
    assert note.endswith("exited with status 7")


def test_a_time_out_says_how_often_it_was_tried(make_executor):
    options = again(make_executor(1), timeout=0.2, retry_on=TimeoutError)
    error = options.submit(tasks.sleep, 60).exception(timeout=30)
    assert type(error) is disttask.TaskTimeout
    assert "(sleep) ran longer than its timeout of 0.2 s (attempt 3 of 3); worker pid" in str(error)
    assert (error.attempts, len(error.earlier_attempts)) == (3, 2)


def test_a_crash_says_so_and_that_it_was_the_limit(executor):
    crash = again(executor).submit(os._exit, 7).exception(timeout=20)
    assert "(_exit) (attempt 3 of 3)" in str(crash)
    crash = again(executor, retries=9, crash_limit=2).submit(os._exit, 7).exception(timeout=20)
    assert "(_exit) (attempt 2 of 10); its crash_limit is reached" in str(crash)


def test_what_was_sent_and_came_back_is_no_attempt(make_executor):
    """The first one keeps its worker busy, so that the others wait there, and are taken back."""
    executor = make_executor(2)
    slow = [executor.submit(tasks.sleep, 0.5) for _ in range(2)]
    futures = [again(executor, retries=1, retry_on=ValueError).submit(tasks.fail, ValueError) for _ in range(20)]
    crashes = [again(executor, retries=1).submit(os._exit, 1) for _ in range(4)]
    for future in futures:
        assert notes(future.exception(timeout=20))[0].startswith("disttask: attempt 2 of 2; attempt 1: it raised")
    for future in crashes:
        crash = future.exception(timeout=20)
        assert (crash.attempts, len(crash.earlier_attempts)) == (2, 1)
        assert crash.earlier_attempts[0].startswith("attempt 1: ")
    assert [future.result(timeout=10) for future in slow] == [None, None]


def test_get_results_has_it_too(monkeypatch):
    from disttask import _default

    monkeypatch.setattr(_default, "_default", _default._Default())
    disttask.configure(max_workers=1)
    future = disttask.options(retries=1, retry_on=ValueError, backoff=0).submit(tasks.fail, ValueError)
    try:
        (record,) = disttask.get_results([future], timeout=20)
        assert notes(record["error"])[0].startswith("disttask: attempt 2 of 2; ")
        assert notes(future.exception()) == notes(record["error"])
    finally:
        disttask.default_executor().shutdown()


# --- what cannot be submitted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "func",
    [
        fetch,
        functools.partial(fetch, "x"),
        disttask.task(fetch),
        disttask.task(fetch, retries=1),
        AsyncCall(),
        AsyncCall().method,
        functools.partial(functools.partial(AsyncCall().method)),
    ],
)
def test_async_functions_are_refused_in_words(executor, func):
    calls = [
        executor.submit,
        again(executor).submit,
        again(executor, retry_on=ValueError).submit,
        lambda func: executor.submit(func, url="x"),
        lambda func: executor.map(func, ["x"]),
        lambda func: executor.options(retries=1, retry_on=ValueError).map(func, ["x"]),
        disttask.serialize_task,
        disttask.submit,
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"is an async def function: .*: def run\(\*args\): return asyncio\.run\("):
            call(func)
    assert executor.status()["totals"]["submitted"] == 0


def test_async_functions_are_refused_inside_tasks(executor):
    def submit_inside():
        async def inner():
            return 1

        try:
            disttask.submit(inner)
        except TypeError as exc:
            return str(exc)

    assert "asyncio.run(inner(*args))" in executor.submit(submit_inside).result(timeout=10)


@pytest.mark.parametrize("name", ["initializer", "finalizer"])
def test_an_async_initializer_would_not_be_run(make_executor, name):
    with pytest.raises(TypeError, match=f"{name} is an async def function, which a call does not run"):
        make_executor(1, **{name: fetch})


def test_what_runs_an_async_function_is_taken(executor):
    def run(*args):
        return asyncio.run(fetch(*args))

    assert executor.submit(run, "x").result(timeout=10) == "x"
    assert executor.submit(RunsItself(fetch), "y").result(timeout=10) == "y"


@pytest.mark.parametrize("func", [count, acount])
def test_a_generator_as_result_says_what_to_return(executor, func):
    error = executor.submit(func).exception(timeout=10)
    assert type(error) is disttask.SerializationError
    assert "generator (return a list of what it yields)" in str(error)


def test_a_coroutine_as_result_says_where_to_run_it(executor):
    error = executor.submit(lambda: fetch("x")).exception(timeout=10)
    assert type(error) is disttask.SerializationError
    assert "its result is of type coroutine (run it in the task, with asyncio.run)" in str(error)


@pytest.mark.parametrize("text", ["text", disttask.serialize_task(abs, 1), b"text"], ids=["any", "task", "bytes"])
def test_an_executor_that_is_given_a_task_text_says_who_takes_those(executor, text):
    for submit in (executor.submit, again(executor).submit):
        with pytest.raises(TypeError, match=r"not (str|bytes): .*serialize_task.* disttask\.submit, or to Client"):
            submit(text)


def test_a_call_instead_of_a_function(executor):
    with pytest.raises(TypeError, match=r"not int: .* submit\(f, x\) and not submit\(f\(x\)\)"):
        executor.submit(abs(-1))
    with pytest.raises(TypeError, match=r"not list: .* map\(f, x\) and not map\(f\(x\)\)"):
        executor.map([1], abs)
    with pytest.raises(TypeError, match="not bytes: a text of serialize_task is a str"):
        disttask.submit(disttask.serialize_task(abs, 1).encode())


# --- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [disttask.wait, disttask.as_completed])
def test_what_cannot_be_waited_for(executor, wait):
    future = executor.submit(abs, -1)
    with pytest.raises(TypeError, match=rf"{wait.__name__}\(\[future\]\); for one there is future\.result\(\)"):
        wait(future)
    for other in (1, asyncio.Future(loop=asyncio.new_event_loop()), future.task_id):
        if isinstance(other, asyncio.Future):
            other.get_loop().close()
        with pytest.raises(TypeError, match=f"the futures that submit returns, not {type(other).__name__}"):
            wait([future, other])
    with pytest.raises(TypeError, match="not iterable"):
        wait(1)
    assert set(disttask.as_completed([future, future])) == disttask.wait({future: 1}).done == {future}
    standard = cf.Future()
    standard.set_result(1)
    assert disttask.wait(iter([standard])).done == {standard}


# --- where code that travels by value comes from ----------------------------------------------------------------------


def test_tracebacks_name_the_file_of_a_lambda_and_show_its_line(executor):
    fail = lambda: 1 / 0  # noqa: E731
    line = fail.__code__.co_firstlineno
    for submit in (executor.submit, again(executor, retry_on=KeyError).submit):
        text = str(submit(fail).exception(timeout=10).__cause__)
        assert f'  File "{__file__}", line {line}, in <lambda>\n    fail = lambda: 1 / 0' in text


def test_all_ways_of_pickling_keep_the_file(executor):
    def where():
        def inner():
            return sys._getframe().f_code.co_filename

        return inner(), sys._getframe().f_code.co_filename

    held = []
    uses_what_changes = lambda: (held, where())[1]  # noqa: E731
    expected = (__file__, __file__)
    assert executor.submit(where).result(timeout=10) == expected
    assert executor.submit(uses_what_changes).result(timeout=10) == expected
    assert executor.submit(disttask.task(uses_what_changes)).result(timeout=10) == expected
    assert executor.submit(lambda func: func(), func=where).result(timeout=10) == expected
    assert list(executor.map(lambda _: where(), [1])) == [expected]
    assert executor.submit(lambda: where).result(timeout=10).__code__.co_filename == __file__
    lines = executor.submit(lambda: inspect.getsource(where)).result(timeout=10)
    assert lines.lstrip().startswith("def where():")


def test_the_file_is_kept_where_multiprocessing_pickles(run_script):
    ended = run_script("""
import multiprocessing.reduction, sys
import disttask
with disttask.Executor(1) as executor:
    print(executor.submit(lambda: sys._getframe().f_code.co_filename).result() == __file__)
""")
    assert ended.out == "True\n"


def test_a_function_that_travels_once_still_does(executor):
    made = {}
    exec(compile("def f(x): return x + 1", "<nowhere>", "exec"), made)
    assert executor._function(made["f"]) is not None
    assert executor._function(made["f"]).name == "f"
    assert executor.submit(made["f"], 1).result(timeout=10) == 2


def test_source_that_only_the_host_has_is_shown(executor):
    """As it is with the cells of a notebook."""
    import linecache

    name = "/nowhere/cell.py"
    source = "def f(x):\n    return 1 / x\n"
    made = {}
    exec(compile(source, name, "exec"), made)
    bare = str(executor.submit(made["f"], 0).exception(timeout=10).__cause__)
    assert f'  File "{name}", line 2, in f\nZeroDivisionError' in bare
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        shown = str(executor.submit(made["f"], 0).exception(timeout=10).__cause__)
    finally:
        del linecache.cache[name]
    assert f'  File "{name}", line 2, in f\n    return 1 / x\nZeroDivisionError' in shown


def test_the_stack_of_a_crash_names_the_file_once(executor):
    def meet_a_signal():
        os.kill(os.getpid(), signal.SIGSEGV)

    crash = executor.submit(meet_a_signal).exception(timeout=20)
    assert len(re.findall(r" in \S*meet_a_signal", str(crash))) == 1
    assert f'File "{__file__}"' in crash.stack


# --- after shutdown ---------------------------------------------------------------------------------------------------


def test_put_after_shutdown(make_executor):
    executor = make_executor(1)
    held = executor.submit(time.sleep, 0.2)
    executor.shutdown(wait=False)
    for value in (1, [1], b"x" * 1_000_000, lambda: 1):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown: make a new Executor"):
            executor.put(value)
    held.result(timeout=10)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.put(json)


def test_put_into_a_broken_pool(make_executor):
    executor = make_executor(1, initializer=os._exit, initargs=(3,))
    assert isinstance(executor.submit(abs, 1).exception(timeout=30), disttask.PoolBroken)
    with pytest.raises(disttask.PoolBroken):
        executor.put([1])
