"""What functions of ``__main__`` use, and every process has of its own: that goes by name. Classes are made once."""

import random

import numpy as np
import pytest

import by_value_tasks
from disttask import _references

# --- methods that are attributes of a module --------------------------------------------------------------------------

DICE = """
import functools, random, secrets, sys, types
import disttask
import by_value_tasks
from random import random as draw, randint
from secrets import choice
from numpy.random import rand

def dice(_=None):
    return randint(1, 10**9)

def both(_=None):
    return draw(), float(rand())

FUNCTIONS = [draw, {"randint": randint}]

def from_container(_=None):
    return FUNCTIONS[1]["randint"](1, 10**9)

def closure(function):
    return lambda _=None: function(1, 10**9)

def call(function, *args):
    return function(*args)

def differ(values):
    values = list(values)
    assert len(set(values)) == len(values) == 10, values

def results(func, *args):
    return [executor.submit(func, *args).result() for _ in range(10)]

if sys.argv[1:]:
    import multiprocessing.reduction
executor = disttask.Executor(1)
for func in dice, both, from_container, closure(randint), disttask.task(dice), disttask.task(from_container), draw:
    differ(results(func))
differ(results(randint, 1, 10**9))
differ(results(functools.partial(randint, 1), 10**9))
differ(results(disttask.task(randint), 1, 10**9))
differ(results(call, randint, 1, 10**9))
differ(results(by_value_tasks.call, randint, 1, 10**9))
differ(results(by_value_tasks.call, draw))
differ(results(by_value_tasks.call_first, [draw]))
differ(executor.map(dice, range(10), chunksize=1))
differ(executor.map(both, range(10), chunksize=1))
differ(executor.map(from_container, range(10)))
differ(executor.map(by_value_tasks.call, [draw] * 10))
differ(executor.map(randint, [1] * 10, [10**9] * 10, chunksize=2))
differ(executor.options(retries=1, retry_on=OSError).submit(dice).result() for _ in range(10))
assert executor.submit(lambda: choice([1, 1])).result() == 1 == executor.submit(choice, [1, 1]).result()
assert type(executor.submit(lambda source: source, random.SystemRandom()).result()) is random.SystemRandom
assert executor._function(draw) is not None and executor._function(dice) is not None, "they travel once"
"""


@pytest.mark.parametrize("args", [(), ("multiprocessing",)])
def test_methods_of_a_modules_own_object_go_by_name(run_script, args):
    assert run_script(DICE, args=args).err == ""


def test_other_methods_travel_with_their_object(executor):
    mine = random.Random(5)
    expected = random.Random(5).random()
    assert [executor.submit(mine.random).result(10) for _ in range(2)] == [expected] * 2
    assert executor.submit(by_value_tasks.call, mine.random).result(10) == expected
    assert executor.submit(by_value_tasks.call, [3, 1].index, 1).result(10) == 1


def test_only_the_very_object_counts(monkeypatch):
    assert _references.place(random.random) == ("random", "random")
    assert _references.place(random._inst.random) is None, "made anew at each access"
    assert _references.place(np.random.rand) == ("numpy.random", "rand")
    assert _references.place("a".split) is None
    assert _references.place(dict.fromkeys) is None
    before = random.random
    monkeypatch.setattr(random, "random", random.Random(1).random)
    assert _references.place(before) is None, "it was replaced"
    assert _references.place(random.random) == ("random", "random")


def test_large_arguments_beside_a_method_keep_their_way(executor):
    array = np.ones(1_000_000)
    for method in random.randint, [1].index:
        assert executor.submit(by_value_tasks.sum_of_second, method, array).result(10) == 1_000_000


METHODS = """
import functools
from typing import Generic, NamedTuple, TypeVar
import disttask, by_value_tasks

add = by_value_tasks.Counter.add
bare = add.__func__
T = TypeVar("T")

class Pair(NamedTuple, Generic[T]):
    x: T
    y: T

executor = disttask.Executor(1)
counts = [executor.submit(lambda: [add(), bare(None)]).result() for _ in range(2)]
counts.append(executor.submit(lambda: [by_value_tasks.added]).result())
assert counts == [[1, 2], [3, 4], [4]], counts
assert executor.submit(lambda pair: Pair(pair.y, 3), Pair(1, 2)).result() == Pair(2, 3)
"""


def test_class_methods_of_a_module_go_by_name(run_script):
    run_script(METHODS)


# --- what every process has one of ------------------------------------------------------------------------------------

OWN = """
import os, sys
from os import environ
from sys import argv, meta_path, modules, path, path_hooks, stderr, stdin, stdout
import disttask

def same():
    return [
        environ is os.environ, path is sys.path, modules is sys.modules, meta_path is sys.meta_path,
        path_hooks is sys.path_hooks, stdout is sys.stdout, stderr is sys.stderr, stdin is sys.stdin,
    ]

def closed(environ, path):
    return lambda: [environ is os.environ, path is sys.path]

def default(environ=environ):
    return [environ is os.environ]

def keep():
    environ["KEPT"] = "yes"
    path.append("/kept")

def look():
    return os.environ.get("KEPT"), sys.path[-1], argv

executor = disttask.Executor(1)
for func in same, closed(environ, path), default:
    for submitted in func, disttask.task(func):
        assert all(executor.submit(submitted).result()), (func, executor.submit(submitted).result())
assert all(list(executor.map(lambda _: all(same()), range(3))))
executor.submit(keep).result()
assert executor.submit(look).result() == ("yes", "/kept", sys.argv)
assert executor.submit(dict, environ).result() == dict(os.environ), "an argument is a copy of what is here"
assert executor.submit(list, path).result() == path
assert executor.submit(lambda stream: stream is sys.stderr, stderr).result()
class Notebooks:
    def __reduce__(self):
        raise TypeError("not to be pickled")
    def write(self, text): pass
    def flush(self): pass
sys.stdout = stdout = Notebooks()
assert executor.submit(lambda: stdout is sys.stdout).result()
"""


@pytest.mark.parametrize("args", [(), ("one", "two")])
def test_what_every_process_has_one_of_is_the_workers_own(run_script, args):
    run_script(OWN, args=args)


# --- classes ----------------------------------------------------------------------------------------------------------

REGISTRY = """
import enum, sys
import disttask, by_value_tasks

class Meta(type):
    made = []
    def __init__(cls, name, bases, namespace, **options):
        super().__init__(name, bases, namespace)
        Meta.made.append(name)

class Base:
    registry = []
    def __init_subclass__(cls, **options):
        Base.registry.append(cls.__name__)

class Sub(Base):
    def __eq__(self, other):
        return type(other) is Sub
    __hash__ = None

class Made(metaclass=Meta):
    pass

class Plugin(by_value_tasks.Plugin):
    pass

class Color(enum.Enum):
    RED = 1

executor = disttask.Executor(1)
for _ in range(3):
    assert executor.submit(Sub).result() == Sub()
    assert executor.submit(lambda x: x, Sub()).result() == Sub()
    assert type(executor.submit(lambda x: x, Made()).result()) is Made
    assert executor.submit(lambda: Color.RED).result() is Color.RED is executor.submit(lambda x: x, Color.RED).result()
    assert type(executor.submit(Plugin).result()) is Plugin
    assert executor.submit(by_value_tasks.plugins).result() == ["Plugin"], "once in the worker"
assert Base.registry == ["Sub"] and Meta.made == ["Made"] and by_value_tasks.Plugin.registry == ["Plugin"]
"""


def test_a_class_is_made_once_in_each_process(run_script):
    run_script(REGISTRY)


KEPT = """
import enum, gc
import disttask, by_value_tasks

class Plugin(by_value_tasks.Plugin):
    pass

class Outer:
    class Inner(by_value_tasks.Plugin):
        pass

class Color(enum.Enum):
    RED = 1

executor = disttask.Executor(1)
for _ in range(3):
    executor.submit(lambda: [Plugin, Outer.Inner]).result()
    executor.submit(gc.collect).result()
assert sorted(executor.submit(by_value_tasks.plugins).result()) == ["Inner", "Plugin"]
alive = [executor.submit(lambda: id(Color)).result() for _ in range(3) if executor.submit(gc.collect).result() >= 0]
assert len(set(alive)) == 1, alive
"""


def test_a_class_of_the_script_stays_in_the_worker(run_script):
    """Though nobody holds it there between two tasks."""
    run_script(KEPT)


FIELDS = """
from dataclasses import MISSING, dataclass, field, fields
import disttask

@dataclass
class Base:
    x: int
    more: list = field(default_factory=list, kw_only=True)

def inherited():
    @dataclass
    class Sub(Base):
        y: int
    assert [each.default is MISSING for each in fields(Sub)] == [True] * 3
    return Sub(1, 2).y

executor = disttask.Executor(1)
assert executor.submit(inherited).result() == 2
assert executor.submit(lambda default=MISSING: default is MISSING).result()
"""


def test_fields_without_a_default_have_none_in_a_worker(run_script):
    run_script(FIELDS)
