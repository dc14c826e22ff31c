"""A signal handler raises while something is pickled: whoever waits is told, and it is not taken for a failure."""

import operator

import pytest

import disttask
from tasks import add


class Late(Exception):
    """What a signal handler raises."""


class Hit:
    """While it is pickled, a signal handler raises: the first so many times."""

    def __init__(self, times=1):
        self.times = times

    def __reduce__(self):
        if self.times > 0:
            self.times -= 1
            raise Late
        return int, (7,)


def hit_while_its_result_is_pickled():
    future = disttask.submit(Hit)
    with pytest.raises(Late):
        future.result()
    return future.result()


def hit_while_it_is_submitted(by_value):
    """Of both ways to pickle."""
    func, hit = (lambda x: -x) if by_value else operator.neg, Hit()
    with pytest.raises(Late):
        disttask.submit(func, hit)
    return disttask.submit(func, hit).result()


@pytest.mark.parametrize("by_value", [False, True])
def test_what_a_signal_handler_raises_while_a_task_submits_is_raised(executor, by_value):
    assert executor.submit(hit_while_it_is_submitted, by_value).result(timeout=10) == -7


def test_what_a_signal_handler_raises_while_arguments_are_pickled_is_raised(executor):
    one = executor.submit(abs, -1)
    for func, args in (
        (operator.neg, ()),
        (lambda x: -x, ()),
        (lambda one, x: -x * one, (one,)),
        (operator.add, (one,)),
    ):
        hit = Hit()
        with pytest.raises(Late):
            executor.submit(func, *args, hit)
        assert abs(executor.submit(func, *args, hit).result(timeout=10)) >= 7
    with pytest.raises(Late):
        executor.submit(add, 1, b=Hit())
    with pytest.raises(Late):
        executor.put(Hit())
    seven = Hit()
    plus_seven = disttask.task(lambda x: x + seven)
    with pytest.raises(Late):
        executor.submit(plus_seven, 1)
    assert executor.submit(plus_seven, 1).result(timeout=10) == 8


def test_a_result_that_a_signal_handler_has_hit(make_executor):
    executor = make_executor(1)
    assert executor.submit(hit_while_its_result_is_pickled).result(timeout=10) == 7
    for times in (1, 2):
        assert executor.submit(Hit, times).result(timeout=10) == 7, "the task has returned: nobody is there to be told"


def calls(executor, hit):
    """Ways to cloudpickle, of which each is to raise what hits it, once, and then to work."""
    put, task = [], disttask.task(lambda: hit)
    return {
        "a task": lambda: executor.submit(task).result(timeout=10),
        "a whole call": lambda: executor.submit(lambda x: x, x=hit).result(timeout=10),
        "a mapped function": lambda: list(executor.map(lambda _: hit, [1])),
        "an item of map": lambda: list(executor.map(second, [(lambda: 1, hit)])),
        "an item of map, by itself": lambda: list(executor.map(second, [(lambda: 1, hit)], chunksize=1)),
        "what is put": lambda: put.append(executor.put((lambda: 1, hit))),
    }


def second(pair):
    return pair[1]


@pytest.mark.parametrize("way", list(calls(None, None)))
def test_what_a_signal_handler_raises_while_something_is_cloudpickled_is_raised(executor, way):
    hit = Hit()
    call = calls(executor, hit)[way]
    with pytest.raises(Late):
        call()
    assert hit.times == 0
    assert call() in (7, [7], None)


@pytest.mark.parametrize("way", list(calls(None, None)))
def test_what_is_raised_whenever_it_is_pickled_is_no_signal_handlers(executor, way):
    with pytest.raises(disttask.SerializationError, match="cannot be pickled") as caught:
        calls(executor, Hit(10**9))[way]()
    assert type(caught.value.__cause__) is Late


class HitAt:
    """Cannot be pickled, and a signal handler raises at one attempt."""

    def __init__(self, attempt):
        self.left = attempt

    def __reduce__(self):
        self.left -= 1
        raise TypeError("never") if self.left else Late


@pytest.mark.parametrize("attempt", [1, 2, 3, 4])
def test_what_cannot_be_pickled_hides_no_signal_handlers_exception(executor, attempt):
    """Where no Python function is quick enough to be tried natively: by keyword."""
    with pytest.raises(Late):
        executor.submit(abs, x=HitAt(attempt))


class Interrupted:
    """It cannot be pickled, and Ctrl-C hits at one attempt to."""

    def __init__(self, attempt):
        self.left = attempt

    def __reduce__(self):
        self.left -= 1
        raise KeyboardInterrupt if self.left == 0 else ValueError


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("way", ["submit", "put", "map"])
def test_ctrl_c_is_not_lost_though_what_it_hits_cannot_be_pickled(executor, way, attempt):
    value = Interrupted(attempt)
    calls = {
        "submit": lambda: executor.submit(abs, value),
        "put": lambda: executor.put(value),
        "map": lambda: list(executor.map(abs, [value], chunksize=1)),
    }
    with pytest.raises(KeyboardInterrupt):
        calls[way]()
