"""What `functools` wraps around functions of ``__main__`` travels by its parts."""

PROPERTIES = """
import functools
from dataclasses import dataclass
import disttask

class Base:
    @property
    def base(self):
        return 1

class Point(Base):
    def __init__(self, x):
        self.x = x
    @functools.cached_property
    def square(self):
        "Of x."
        CALLS.append(self.x)
        return self.x ** 2
    @functools.cached_property
    def base(self):
        return super().base + 1

CALLS = []

def twice(point):
    assert Point.square.attrname == "square" and Point.square.__doc__ == "Of x."
    return point.square + point.square, point.base, len(CALLS), point

executor = disttask.Executor(1)
for _ in range(2):
    *found, point = executor.submit(twice, Point(3)).result()
    assert found == [18, 2, 1] and vars(point) == {"x": 3, "square": 9, "base": 2} and type(point) is Point
    assert executor.submit(lambda: Point(2).square).result() == 4
"""


def test_cached_properties(run_script):
    run_script(PROPERTIES)


DISPATCH = """
import abc, functools, numbers
import disttask, by_value_tasks

class Animal(abc.ABC):
    pass

class Dog(Animal):
    pass

class Cat:
    pass

Animal.register(Cat)

@functools.singledispatch
def describe(value):
    "What it is."
    return "something"

@describe.register
def _(value: int | str):
    return f"plain {value}"

@describe.register(numbers.Number)
def _(value):
    return "number"

@describe.register(list)
def _(value):
    return [describe(each) for each in value]

@describe.register
def _(value: Animal):
    return "animal"

describe.note = "mine"

class Shower:
    def __init__(self, prefix):
        self.prefix = prefix
    @functools.singledispatchmethod
    def show(self, value):
        return f"{self.prefix} something"
    @show.register
    def _(self, value: int):
        return f"{self.prefix} int"
    @show.register
    def _(self, value: list):
        return [self.show(each) for each in value]
    @functools.singledispatchmethod
    @classmethod
    def made(cls, value):
        return cls(value)
    @made.register
    @classmethod
    def _(cls, value: int):
        return cls(str(value))

def look():
    try:
        describe()
    except TypeError as exc:
        assert str(exc) == "describe requires at least 1 positional argument", exc
    describe.register(bytes, lambda value: "bytes")
    assert describe(b"") == "bytes"
    return describe.__name__, describe.__doc__, describe.__module__, describe.note, describe.dispatch(bool)(True)

executor = disttask.Executor(1)
values = [1, "a", 1.5, [2, [None]], Dog(), Cat(), True]
for _ in range(2):
    for func in describe, lambda value: describe(value), disttask.task(describe):
        assert executor.submit(func, values).result() == describe(values), executor.submit(func, values).result()
    assert executor.submit(by_value_tasks.call, describe, values).result() == describe(values)
    assert list(executor.map(describe, values)) == describe(values)
    assert executor.submit(look).result() == ("describe", "What it is.", "__main__", "mine", "plain True")
    assert executor.submit(describe, b"").result() == "something", "what a task registers is gone with it"
    assert executor.submit(Shower("a").show, [1, None]).result() == ["a int", "a something"]
    mine = Shower("b")
    assert mine.show(5) == "b int"  # it has cached things now
    for func in mine.show, lambda value: mine.show(value):
        assert executor.submit(func, 5).result() == "b int"
    assert executor.submit(Shower.made, 5).result().prefix == "5"
    assert executor.submit(by_value_tasks.Shower("c").show, 5).result() == "c int"
    assert executor.submit(lambda: [Shower.made(1).prefix, Shower.made("b").prefix]).result() == ["1", "b"]
back = executor.submit(lambda: describe).result()
assert back(values) == describe(values)
"""


def test_functions_that_dispatch_on_a_type(run_script):
    run_script(DISPATCH)
