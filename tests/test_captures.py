"""A function that carries much data, and is pickled again for each task: whoever submits it is told, once."""

import functools
import gc
import os
import warnings

import pytest

import disttask
import tasks
from disttask import _captures
from disttask._pickling import LARGE_BYTES

LARGE = LARGE_BYTES + 1000


def capturing(size=LARGE):
    """A function that travels by value, with data that could change."""
    data = [b"x" * size]

    def look(*_args, **_kwargs):
        return len(data[0])

    look.data = data
    return look


def said(submit, times):
    """The warnings of so many submits, each waited for."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            submit().result(timeout=30)
    return caught


def test_the_third_submit_warns_and_no_other(executor):
    func = capturing()
    counts = [len(said(lambda: executor.submit(func, 1), 1)) for _ in range(5)]
    assert counts == [0, 0, 1, 0, 0]
    again = said(lambda: executor.submit(func, 1), 3)
    assert again == [], "once for each function"
    assert len(said(lambda: executor.submit(capturing_other, 1), 3)) == 1, "another function is another matter"


capturing_other = capturing()


def test_the_warning_says_who_how_much_and_what_to_do(executor):
    func = capturing()
    (caught,) = said(lambda: executor.submit(func, 1), 3)
    assert caught.category is UserWarning
    text = str(caught.message)
    assert "capturing.<locals>.look" in text
    assert "10 MB" in text
    assert "executor.put(data)" in text
    assert "disttask.task(" in text


WAYS = {
    "plain": lambda executor, func: executor.submit(func),
    "options": lambda executor, func: executor.options(priority=1).submit(func),
    "guarded": lambda executor, func: executor.options(retries=1, retry_on=OSError).submit(func),
    "task": lambda executor, func: executor.submit(disttask.task(func, priority=1), keyword=1),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_points_at_the_users_line(executor, way):
    func, submit = capturing(), WAYS[way]
    (caught,) = said(lambda: submit(executor, func), 3)
    assert (caught.filename, caught.lineno) == (__file__, submit.__code__.co_firstlineno)
    assert ("disttask.task(" in str(caught.message)) == (way in ("plain", "options")), "where that would help"


class Caller:
    """Importable; an instance is not."""

    def __init__(self):
        self.weights = bytearray(LARGE)

    def __call__(self, number):
        return len(self.weights) + number

    def __eq__(self, other):
        raise AssertionError("equality is not asked for")

    __hash__ = None


@pytest.mark.parametrize("how", ["partial", "method", "instance"])
def test_whatever_carries_data_counts(executor, how):
    caller = Caller()
    make = {
        "partial": functools.partial(functools.partial, tasks.add, [0] * (LARGE // 2), [1]),
        "method": lambda: caller.__call__,  # made anew each time
        "instance": lambda: caller,
    }[how]
    func = make()
    submit = functools.partial(executor.submit, func) if how == "partial" else lambda: executor.submit(make(), 1)
    assert len(said(submit, 4)) == 1


SCRIPT = """
import sys, disttask
BIG = [b"x" * 10_001_000]
def look(_=None):
    return len(BIG[0])
for _ in range(5):
    assert disttask.submit(look).result() == 10_001_000
print("module", file=sys.stderr)
with disttask.Executor(1) as executor:
    for _ in range(5):
        executor.submit(look).result()
    print("a function is told of once", file=sys.stderr)
    executor.submit(disttask.task(look)).result()
"""


def test_in_a_script(run_script):
    done = run_script(SCRIPT)
    before, after = done.err.split("module")
    assert before.count("UserWarning: look carries 10 MB") == 1
    assert ":7: UserWarning" in before
    assert after.strip() == "a function is told of once"


def test_no_word_where_all_is_well(executor):
    assert said(lambda: executor.submit(capturing(), 1), 4) == [], "each is submitted once"
    small = capturing(LARGE // 2)
    assert said(lambda: executor.submit(small, 1), 4) == []
    assert said(lambda: executor.submit(small, bytearray(LARGE), keyword=1), 4) == [], "the arguments are large"
    once = disttask.task(capturing())
    assert said(lambda: executor.submit(once, 1), 4) == [], "pickled once"
    constant = b"x" * LARGE
    assert said(lambda: executor.submit(lambda: len(constant)), 4) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(executor.map(capturing(), range(50))) == [LARGE] * 50, "map pickles it once"


def test_data_that_changes_has_to_be_sent(executor):
    func = capturing()

    def submit():
        func.data[0] = os.urandom(8) + func.data[0][8:]
        return executor.submit(func)

    assert said(submit, 8) == []


def test_as_an_error_it_refuses_the_submit_and_nothing_else(executor):
    func = capturing()
    before = executor.status()["totals"]["submitted"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        futures = [executor.submit(func) for _ in range(2)]
        for _ in range(3):
            with pytest.raises(UserWarning, match="anew with each task"):
                executor.submit(func)
    assert executor.status()["totals"]["submitted"] == before + 2
    assert [future.result(timeout=30) for future in futures] == [LARGE] * 2
    assert len(said(lambda: executor.submit(func), 3)) == 1, "the pool goes on, and the word is still to be said"


def test_an_input_in_the_function_is_measured_as_it_is_sent(executor):
    ref = executor.put([1, 2])
    func = functools.partial(tasks.add, [0] * (LARGE // 2))
    (caught,) = said(lambda: executor.submit(func, b=ref), 3)
    assert "disttask.task(" not in str(caught.message), "that is pickled with keyword arguments, too"
    within = functools.partial(tasks.add, [0] * (LARGE // 2), ref)
    assert len(said(lambda: executor.submit(within), 3)) == 1


def test_following_the_advice_helps(executor):
    data = [b"x" * LARGE]
    ref = executor.put(data)
    assert said(lambda: executor.submit(lambda data: len(data[0]), ref), 4) == []
    assert said(lambda: executor.submit(lambda data: len(data[0]), data=ref), 4) == []


def test_what_was_met_is_forgotten_with_it(executor):
    before = set(_captures._met)
    said(functools.partial(executor.submit, capturing()), 3)
    gc.collect()
    assert set(_captures._met) <= before


def test_a_function_that_cannot_be_told_again_is_left_alone(executor):
    numbers = [0] * (LARGE // 2)
    assert said(lambda: executor.submit(numbers.count, 0), 4) == [], "no weak reference to a list"


class Task:
    """The user's own, with a name that we have, too."""

    def __init__(self):
        self.data = b"x" * LARGE

    def __call__(self):
        return len(self.data)


def test_a_class_of_the_same_name_is_not_ours(executor):
    call = Task()
    (caught,) = said(lambda: executor.submit(call), 3)
    assert "Task carries" in str(caught.message)
