"""Whatever an exception's class, metaclass and properties do: only its task fails, and says what can be said."""

import concurrent.futures as cf

import pytest

import disttask
import hostile_exceptions as hostile
from helpers import assert_usable

INDEXES = range(len(hostile.EXCEPTIONS))


def assert_nobody_died(executor):
    assert_usable(executor, 10)
    assert executor.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize("index", INDEXES)
def test_a_hostile_exception(executor, index):
    exc = executor.submit(hostile.raise_it, index).exception(timeout=20)
    name = hostile.own_name(hostile.EXCEPTIONS[index])
    if type(exc) is disttask.RemoteError:
        assert exc.type_name in (name, f"hostile_exceptions.{name}")
        assert "in raise_it" in exc.traceback or "cannot be formatted" in exc.traceback
    else:
        # It can be pickled; or what its class does is what the task has raised.
        assert hostile.own_name(type(exc)) in (name, "SystemExit")
    assert_nobody_died(executor)


@pytest.mark.parametrize("index", INDEXES)
def test_the_repr_of_a_future_that_ended_so(executor, index):
    future = executor.submit(hostile.raise_it, index)
    cf.wait([future], timeout=20)
    for _ in range(2):  # the class is known only by its name, and then loaded
        assert repr(future).startswith("<disttask.Future ")
        assert " finished raised " in repr(future)
        assert "failed" in future._repr_html_() or "raise" in future._repr_html_()
        future.exception(timeout=20)


@pytest.mark.parametrize("index", INDEXES)
def test_an_exception_with_a_hostile_cause(executor, index):
    exc = executor.submit(hostile.raise_from_it, index).exception(timeout=20)
    assert type(exc) is LookupError
    assert exc.args == ("raised from it",)
    assert_nobody_died(executor)


@pytest.mark.parametrize("index", INDEXES)
def test_in_a_chunk_of_map(executor, index):
    found = list(executor.map(hostile.raise_it, [index] * 3, return_exceptions=True, chunksize=3))
    assert len(found) == 3
    assert len({type(exc) for exc in found if type(exc) is not SystemExit}) <= 1
    assert_nobody_died(executor)


@pytest.mark.parametrize("index", INDEXES)
def test_in_a_nested_task(make_executor, index):
    executor = make_executor(1)
    name = executor.submit(hostile.raise_it_nested, index).result(timeout=20)
    assert name in ("RemoteError", "SystemExit", hostile.own_name(hostile.EXCEPTIONS[index]))
    assert_nobody_died(executor)


@pytest.mark.parametrize("index", range(len(hostile.RESULTS)))
@pytest.mark.parametrize("call", [hostile.return_it, hostile.return_it_nested])
def test_a_hostile_result_that_cannot_be_pickled(make_executor, index, call):
    executor = make_executor(1)
    future = executor.submit(call, index)
    exc = future.exception(timeout=20)
    if exc is None:
        assert future.result() in ("SerializationError", "SystemExit")
    elif type(exc) is disttask.SerializationError:
        assert (
            f"its result is of type hostile_exceptions.{hostile.own_name(hostile.RESULTS[index])}: never pickled"
            in str(exc)
        )
    else:
        assert type(exc) is SystemExit
    assert_nobody_died(executor)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("observed", [False, True])
def test_a_result_that_raises_one_when_it_is_unpickled_here(executor, index, observed):
    future = executor.submit(hostile.return_what_raises, index)
    if observed:
        assert not cf.wait([future], timeout=20).not_done
    exc = future.exception(timeout=20)
    if type(exc) is disttask.DeserializationError:
        assert str(exc).startswith("the task's result cannot be unpickled here: ")
    else:
        assert hostile.own_name(type(exc)) in ("InterruptsWhenShown", "SystemExit")
    assert_nobody_died(executor)


def test_a_description_that_is_interrupted(executor):
    text = "^the task failed, and so did describing how"
    with pytest.raises(RuntimeError, match=text):
        executor.submit(hostile.interrupt_the_description).result(timeout=20)
    with pytest.raises(RuntimeError, match=text):
        list(executor.map(hostile.interrupt_the_description, [1, 2], chunksize=2))
    assert_nobody_died(executor)
