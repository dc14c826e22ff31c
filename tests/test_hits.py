"""A signal handler raises while something is pickled: whoever waits is told, and it is not taken for a failure."""

import functools
import operator
import signal
import sys
from typing import ClassVar

import pytest

import disttask
from tasks import add


class Late(Exception):
    """What a signal handler raises."""


def hit_with(exc):
    """A signal arrives here and now, and its handler raises."""

    def handler(_signum, _frame):
        raise exc

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


class Asked:
    """What cannot be pickled. While somebody asks whether a handler has raised that, nothing is to be imported."""

    def __reduce__(self):
        raise ValueError("no")

    @staticmethod
    def find_spec(name, path=None, target=None):
        frame = sys._getframe()
        while frame and not frame.f_code.co_filename.endswith("_pickling.py"):
            frame = frame.f_back
        if frame and frame.f_code.co_name == "told_apart":
            Asked.imported.append(name)

    imported: ClassVar = []


def ask():
    sys.meta_path.insert(0, Asked)
    return Asked()


def test_nothing_is_imported_to_tell_who_has_raised(make_executor):
    """That would be Python code, and a child that is forked meanwhile by another thread would wait for it for ever."""
    executor = make_executor(1)
    with pytest.raises(disttask.SerializationError):
        executor.submit(ask).result(timeout=10)
    assert executor.submit(getattr, Asked, "imported").result(timeout=10) == []
    assert executor.submit(eval, "__import__('sys').meta_path[0].__name__").result(timeout=10) == "Asked"


class Hit:
    """While it is pickled, a signal handler raises: the first so many times."""

    def __init__(self, times=1):
        self.times = times

    def __reduce__(self):
        if self.times > 0:
            self.times -= 1
            hit_with(Late)
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


class Broken:
    """It cannot be pickled."""

    def __reduce__(self):
        raise Late


@pytest.mark.parametrize("way", list(calls(None, None)))
def test_what_is_raised_whenever_it_is_pickled_is_no_signal_handlers(executor, way):
    with pytest.raises(disttask.SerializationError, match="cannot be pickled") as caught:
        calls(executor, Broken())[way]()
    assert type(caught.value.__cause__) is Late


class Counts:
    """How often it was tried to pickle it, which cannot be done."""

    tries = 0

    def __reduce__(self):
        Counts.tries += 1
        raise TypeError("never")


@pytest.mark.parametrize("way", list(calls(None, None)))
def test_what_cannot_be_pickled_is_not_tried_again_and_again(executor, way):
    """To pickle it may take seconds: as `docs/reference/errors.md` says."""
    Counts.tries = 0
    with pytest.raises(disttask.SerializationError):
        calls(executor, Counts())[way]()
    assert Counts.tries <= 6


class HitAt:
    """Cannot be pickled, and a signal handler raises at one attempt."""

    def __init__(self, attempt):
        self.attempt = attempt
        self.tries = 0

    def __reduce__(self):
        self.tries += 1
        if self.tries == self.attempt:
            hit_with(Late)
        raise TypeError("never")


def pickling(executor, value):
    """Ways to have something pickled that cannot be."""
    return {
        "an argument": lambda: executor.submit(abs, value).result(),
        "an argument by keyword": lambda: executor.submit(abs, x=value).result(),
        "what is put": lambda: executor.put(value),
        "an item of map": lambda: list(executor.map(abs, [value])),
        "within another": lambda: executor.submit(abs, {"a": [value]}).result(),
    }


@pytest.mark.parametrize("way", list(pickling(None, None)))
def test_what_cannot_be_pickled_hides_no_signal_handlers_exception(executor, way):
    """Wherever the handler raises: also while it is looked for the part that cannot be pickled."""
    undisturbed = HitAt(0)
    with pytest.raises(disttask.SerializationError):
        pickling(executor, undisturbed)[way]()
    assert undisturbed.tries > 2
    for attempt in range(1, undisturbed.tries + 1):
        with pytest.raises(Late):
            pickling(executor, HitAt(attempt))[way]()


def handler(_signum, _frame):
    raise Late


def handler_that_deletes(signum, frame):
    del signum, frame
    raise Late


def handler_with_more(_more, _signum, _frame):
    raise Late


def handler_of_any(*_):
    raise Late


def deeper(*args):
    handler_that_deletes(*args)


class Handler:
    def __call__(self, _signum, _frame):
        raise Late

    def method(self, signum, frame):
        del signum, frame
        raise Late


HANDLERS = {
    "function": handler,
    "deleting": handler_that_deletes,
    "partial": functools.partial(handler_with_more, 1),
    "any": handler_of_any,
    "deeper": deeper,
    "instance": Handler(),
    "method": Handler().method,
    "partial of a method": functools.partial(Handler().method),
}


class Raises:
    """A signal at the first attempt. Pickling it fails at each."""

    def __init__(self, number):
        self.number = number
        self.left = 1

    def __reduce__(self):
        if self.left:
            self.left -= 1
            signal.raise_signal(self.number)
        raise OSError("never")


@pytest.mark.parametrize("kind", list(HANDLERS))
def test_whatever_kind_of_handler_it_is(executor, kind):
    before = signal.signal(signal.SIGUSR1, HANDLERS[kind])
    try:
        with pytest.raises(Late):
            executor.submit(abs, x=Raises(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)


class Registers:
    """Fails in one way at first, and in another ever after: as a module that has registered something."""

    tries = 0

    def __reduce__(self):
        Registers.tries += 1
        raise ModuleNotFoundError("no such module") if Registers.tries == 1 else ValueError("registered twice")


@pytest.mark.parametrize("way", list(pickling(None, None)))
def test_what_fails_in_another_way_the_second_time_is_no_signal_handlers(executor, way):
    Registers.tries = 0
    with pytest.raises(disttask.SerializationError):
        pickling(executor, Registers())[way]()


def fails_to_load():
    Registers.tries += 1
    raise ModuleNotFoundError("no such module") if Registers.tries == 1 else ValueError("registered twice")


class LoadsOnce:
    def __reduce__(self):
        return fails_to_load, ()


def test_a_result_that_fails_to_load_in_two_ways_tells_of_the_first(executor):
    Registers.tries = 0
    future = executor.submit(LoadsOnce)
    for _ in range(2):
        with pytest.raises(disttask.DeserializationError, match="no such module") as caught:
            future.result()
        assert type(caught.value.__cause__) is ModuleNotFoundError
    assert Registers.tries == 1


def load_inline():
    Registers.tries = 0
    future = disttask.submit(abs, LoadsOnce())
    with pytest.raises(disttask.DeserializationError, match="no such module"):
        future.result()
    return Registers.tries


def test_a_nested_call_that_fails_to_load_in_two_ways_tells_of_the_first(make_executor):
    assert make_executor(1).submit(load_inline).result(timeout=10) == 1


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
