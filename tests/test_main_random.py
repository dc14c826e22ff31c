"""A generator of random numbers that travels with a function gives all tasks the same ones: that is told of, once."""

import random
import warnings

import numpy as np
import pytest

import by_value_tasks
import disttask
import tasks
from disttask import _random_state
from helpers import assert_usable


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


def drawing(rng):
    def draw(_=None):
        return rng.random()

    return draw


def seeding(rng):
    def draw(seed):
        rng.seed(seed)
        return rng.random()

    return draw


WAYS = {
    "submit": lambda executor, func: executor.submit(func).result(10),
    "options": lambda executor, func: executor.options(priority=1).submit(func).result(10),
    "guarded": lambda executor, func: executor.options(retries=1, retry_on=OSError).submit(func).result(10),
    "keyword": lambda executor, func: executor.submit(func, _=1).result(10),
    "map": lambda executor, func: list(executor.map(func, range(3))),
    "argument": lambda executor, func: executor.submit(by_value_tasks.call, func).result(10),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_generator_that_travels_is_told_of_once(make_executor, way):
    func, call = drawing(random.Random(1)), WAYS[way]
    one, two = make_executor(1), make_executor(1)
    (caught,) = told(lambda: [call(one, func) for _ in range(3)])
    assert caught.category is UserWarning
    assert (caught.filename, caught.lineno) == (__file__, call.__code__.co_firstlineno)
    text = str(caught.message)
    assert "closure variable `rng` (of type random.Random) that drawing.<locals>.draw uses" in text
    assert "initializer" in text
    assert "random.Random(seed)" in text
    assert len(told(lambda: call(two, func))) == 1, "for another executor"
    assert len(told(lambda: call(one, drawing(random.Random(1))))) == 1, "another function"


def test_a_task_that_is_pickled_once_is_told_of(make_executor):
    executor = make_executor(1)
    once = disttask.task(drawing(random.Random(1)))
    assert len(told(lambda: [executor.submit(once).result(10) for _ in range(3)])) == 1
    assert len(told(lambda: list(executor.map(once, range(3))))) == 0
    assert len(told(lambda: make_executor(1).submit(once).result(10))) == 1


@pytest.mark.parametrize(
    "generator",
    [np.random.default_rng(1), np.random.RandomState(1), random.Random(1).random, np.random.default_rng(1).random],
)
def test_generators_of_every_kind(executor, generator):
    (caught,) = told(lambda: executor.submit(lambda: str(generator)).result(10))
    numpys = "numpy" in type(getattr(generator, "__self__", generator)).__module__
    assert ("numpy.random.default_rng(seed)" in str(caught.message)) == numpys


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: drawing(random.SystemRandom()), None),
        (lambda: drawing(random), None),
        (lambda: seeding(random.Random(1)), 3),
        (lambda: lambda seed: random.Random(seed).random(), 3),
        (lambda: tasks.add, 3),
    ],
)
def test_no_word_where_all_is_well(executor, make, argument):
    func = make()
    assert told(lambda: executor.submit(func, argument).result(10)) == []
    assert told(lambda: executor.submit(by_value_tasks.call, random.Random(1).random).result(10)) == [], "an argument"


def test_as_an_error_it_refuses_the_submit_and_nothing_else(executor):
    func = drawing(random.Random(1))
    before = executor.status()["totals"]["submitted"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for submit in executor.submit, executor.map:
            for each in func, disttask.task(func):
                for _ in range(2):
                    with pytest.raises(UserWarning, match="same numbers"):
                        submit(each, [1])
    assert executor.status()["totals"]["submitted"] == before
    assert len(told(lambda: executor.submit(func).result(10))) == 1
    assert_usable(executor, 10)


def test_what_was_told_of_is_forgotten_with_it(executor):
    before = set(_random_state._told)
    told(lambda: executor.submit(drawing(random.Random(1))).result(10))
    assert set(_random_state._told) <= before


def test_in_a_script(run_script):
    done = run_script("""
import random, disttask
rng = random.Random()
def draw(): return rng.random()
with disttask.Executor(1) as executor:
    assert len({executor.submit(draw).result() for _ in range(5)}) == 1
""")
    assert done.err.count("UserWarning: the global `rng` (of type random.Random) that draw uses") == 1
    assert ":6: UserWarning" in done.err
