"""What is found by its name in ``__main__``: it travels by value, and is the same object again when it comes back."""

import sys

import pytest

TYPES = """
import typing
from dataclasses import dataclass
from typing import Callable, NewType, ParamSpec, TypeVarTuple, Unpack
import disttask

UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)
P = ParamSpec("P", bound=int)
Ts = TypeVarTuple("Ts")

@dataclass
class User:
    id: UserId

def twice(func: Callable[P, int]) -> Callable[P, int]:
    def both(*args: P.args, **kwargs: P.kwargs) -> int:
        return 2 * func(*args, **kwargs)
    return both

@twice
def given(number: UserId, *more: Unpack[Ts]) -> int:
    return UserId(number)

def names():
    assert AdminId.__supertype__ is UserId and P.__bound__ is int
    return [(each.__name__, each.__module__) for each in (UserId, AdminId, P, Ts)]

def local():
    Local = NewType("Local", str)
    return Local, executor.submit(lambda: [Local, list[Local]]).result()

executor = disttask.Executor(1)
for _ in range(2):
    assert executor.submit(given, UserId(3), 4).result() == 6
    assert executor.submit(User, UserId(3)).result() == User(UserId(3))
    assert executor.submit(names).result() == [(name, "__main__") for name in ("UserId", "AdminId", "P", "Ts")]
    for each in UserId, AdminId, P, Ts:
        assert executor.submit(lambda: each).result() is each is executor.submit(lambda x: x, each).result()
        assert executor.submit(lambda x: x is each, each).result()
    for each in P.args, P.kwargs, list[UserId], Callable[P, int], Unpack[Ts]:
        assert executor.submit(lambda: each).result() == each == executor.submit(lambda x: x, each).result()
    mine, (back, made_of) = local()
    assert back is mine and made_of == list[mine]
assert executor.submit(lambda: typing.Text).result() is str
"""


def test_types_that_have_a_name_travel(run_script):
    run_script(TYPES)


ALIASES = """
import sys
import disttask

type Row = list[int]
type Json = dict[str, Json] | int
type Pair[T] = tuple[T, T]
type Unknown = OnlyForTypeCheckers
type Endless[T] = list[Endless[T]]

def look[T, **P, *Ts](row: Row, other: Unknown) -> Pair[int]:
    assert Row.__module__ == Pair.__module__ == "__main__"
    assert Json.__value__.__args__[0].__args__[1] is Json
    assert Pair.__value__.__args__ == Pair.__type_params__ * 2
    return Row, Json, Pair, Unknown, Row.__value__, Pair[int].__args__

executor = disttask.Executor(1)
for _ in range(2):
    row, json, pair, unknown, value, args = executor.submit(look, Row, Unknown).result()
    assert row is Row and json is Json and pair is Pair and unknown is Unknown
    assert value == list[int] and args == (int,)
    assert executor.submit(lambda: Pair[int]).result() == Pair[int]
assert "OnlyForTypeCheckers" in str(executor.submit(lambda: Unknown.__value__).exception())
error = executor.submit(lambda: Endless).exception()
assert isinstance(error, disttask.SerializationError) and "global `Endless`" in str(error), error
if sys.version_info >= (3, 13):
    from typing import ParamSpec
    D = ParamSpec("D", default=[int])
    assert executor.submit(lambda: D.__default__).result() == [int]
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is new in Python 3.12")
def test_aliases_travel_also_one_that_names_itself(run_script):
    run_script(ALIASES)


OBJECTS = """
import enum, functools
import disttask, by_value_tasks

class Missing:
    def __reduce__(self):
        return "MISSING"

class Slotted:
    __slots__ = ("value",)
    def __reduce_ex__(self, protocol):
        return "Holder.SLOTTED"

class Number(int):
    def __new__(cls, value, note):
        self = super().__new__(cls, value)
        self.note = note
        return self
    def __getnewargs__(self):
        return int(self), self.note
    def __reduce_ex__(self, protocol):
        return "NUMBER"

class Traced:
    def __init__(self, func):
        functools.update_wrapper(self, func)
        self.calls = 0
    def __call__(self, *args):
        self.calls += 1
        return self.__wrapped__(*args)
    def __reduce__(self):
        return self.__qualname__

@enum.global_enum
class Color(enum.Enum):
    RED = 1

@Traced
def factorial(number):
    return 1 if number < 2 else number * factorial(number - 1)

class Holder:
    SLOTTED = Slotted()

MISSING = Missing()
Holder.SLOTTED.value = 5
NUMBER = Number(7, "seven")

def default(value=MISSING):
    return value is MISSING

def own():
    return Missing()

executor = disttask.Executor(1)
for _ in range(2):
    assert executor.submit(default).result() and executor.submit(default, MISSING).result()
    assert executor.submit(factorial, 5).result() == 120 and factorial.calls == 0
    for each in MISSING, NUMBER, Holder.SLOTTED, Color.RED, factorial:
        assert executor.submit(lambda: each).result() is each is executor.submit(lambda x: x, each).result()
        assert executor.submit(by_value_tasks.call, lambda x: x is each, each).result()
    assert executor.submit(lambda: (NUMBER + 1, NUMBER.note, Holder.SLOTTED.value)).result() == (8, "seven", 5)
assert "MISSING" in str(executor.submit(own).exception())
"""


def test_objects_that_pickle_as_their_name_travel(run_script):
    run_script(OBJECTS)


REFUSED = """
import disttask

class Known(list):
    def __reduce__(self):
        return "KNOWN"

class Lost:
    def __reduce__(self):
        return "NOWHERE"

KNOWN, LOST = Known([1]), Lost()
executor = disttask.Executor(1)
for func, name in (lambda: KNOWN, "KNOWN"), (lambda: LOST, "LOST"):
    error = executor.submit(func).exception()
    assert isinstance(error, disttask.SerializationError) and f"its global `{name}`" in str(error), error
    print(error)
"""


def test_what_cannot_travel_says_so_at_submit(run_script):
    known, lost = run_script(REFUSED).out.splitlines()
    assert "it is to be found as 'KNOWN' in __main__, which is another module in a worker" in known
    assert "NOWHERE" in lost
