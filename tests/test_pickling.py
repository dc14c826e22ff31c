"""What travels to a worker and back: code by reference and by value, exceptions, and what cannot travel."""

import concurrent.futures as cf
import functools
import operator
import threading
from dataclasses import dataclass

import pytest

import disttask
from disttask import _native
from disttask._pickling import MAX_CAUSES
from helpers import assert_usable
from tasks import add, fail

MAIN = '''
import disttask, functools, sys

FACTOR = 3

class MyError(Exception):
    """An exception of __main__."""

class Point:
    kind = "host"

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and other.x == self.x

    __hash__ = None

class Base:
    def who(self):
        return "base"

class Derived(Base):
    def who(self):
        return "derived of " + super().who()

def triple(x):
    return FACTOR * helper(x)

def helper(x):
    return x

def fail_with(x):
    raise MyError(x)

def make(x):
    Point.kind = "worker"
    return Point(x)

def recursive(n):
    return 1 if n == 0 else n * recursive(n - 1)

def closure(n):
    return lambda x: x + n

executor = disttask.Executor(1)
print(executor.submit(triple, 4).result())
print(executor.submit(lambda: FACTOR + 1).result())
print(executor.submit(closure(10), 5).result())
print(executor.submit(functools.partial(triple, x=5)).result())
print(executor.submit(recursive, 5).result())
print(executor.submit(Derived().who).result())
print(list(executor.map(triple, range(3))))
point = executor.submit(make, 7).result()
print(type(point) is Point, point == Point(7), Point.kind)
print(executor.submit(isinstance, Point(1), Point).result())
try:
    executor.submit(fail_with, 9).result()
except MyError as exc:
    print("caught", exc.args, type(exc) is MyError)
FACTOR = 5
print(executor.submit(triple, 4).result())
print(disttask.submit(triple, 1).result(), disttask.submit(disttask.serialize_task(triple, 2)).result())
executor.shutdown()
'''

EXPECTED = """12
4
15
15
120
derived of base
[0, 3, 6]
True True host
True
caught (9,) True
20
5 10
"""


def test_everything_in_main_needs_no_guard(run_script):
    assert run_script(MAIN).out == EXPECTED


def test_a_program_that_comes_through_stdin(run_script):
    assert run_script("", stdin=MAIN).out == EXPECTED


def test_a_repl(run_script):
    """As a notebook does: cells are executed one after another in the namespace of __main__."""
    source = f"""
import __main__, ast
for statement in ast.parse({MAIN!r}).body:
    exec(compile(ast.unparse(statement), "<cell>", "exec"), __main__.__dict__)
"""
    assert run_script(source).out == EXPECTED


def test_lambdas_closures_partials_and_methods(executor):
    base = 5
    assert executor.submit(lambda x: x + base, 1).result(timeout=10) == 6
    assert executor.submit(functools.partial(add, 1), b=2).result(timeout=10) == 3
    assert executor.submit(operator.attrgetter("real"), 3).result(timeout=10) == 3
    assert executor.submit("a-b".split, "-").result(timeout=10) == ["a", "b"]
    inner = executor.submit(lambda: lambda y: y * base).result(timeout=10)
    assert inner(3) == 15


def test_a_changed_default_does_not_bleed_into_the_next_task(executor):
    def collect(item, into=[]):  # noqa: B006  that is the point
        into.append(item)
        return into

    assert [executor.submit(collect, n).result(timeout=10) for n in range(4)] == [[0], [1], [2], [3]]


def test_a_redefined_function_is_the_one_that_runs(executor):
    for number in range(5):
        namespace = {}
        exec(f"def f(): return {number}", namespace)
        assert executor.submit(namespace["f"]).result(timeout=10) == number


# --- exceptions ---------------------------------------------------------------------------------------


class WithState(Exception):
    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail

    def __reduce__(self):
        return WithState, (self.code, self.detail)


class TwoArguments(Exception):
    """Its pickle is made of `args`, which do not fit `__init__`, and it says itself that it wants that."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

    def __reduce__(self):
        return TwoArguments, self.args


class HoldsALock(Exception):
    def __init__(self):
        super().__init__(threading.Lock())

    def __str__(self):
        return "locked up"


def raise_from():
    try:
        {}["missing key"]
    except KeyError as exc:
        error = WithState(404, "not here")
        error.extra = [1, 2]
        raise error from exc


def test_an_exception_comes_back_as_itself(executor):
    with pytest.raises(WithState, match="404: not here") as caught:
        executor.submit(raise_from).result(timeout=10)
    exc = caught.value
    assert (exc.code, exc.detail) == (404, "not here")
    cause = exc.__cause__
    assert isinstance(cause, disttask.RemoteTraceback)
    for text in ("in raise_from", "missing key", "direct cause", "WithState: 404"):
        assert text in str(cause)
    assert "disttask/_worker.py" not in str(cause), "our own frames are nobody's business"


def raise_chain(length, awkward_at=None):
    """`length` exceptions, each raised from the one with the next number."""
    cause = None
    for number in reversed(range(length)):
        error = ExitsWhenRebuilt(number) if number == awkward_at else ValueError(number)
        error.__cause__ = cause
        cause = error
    raise cause


def causes_of(exc):
    """What the task has raised it from."""
    found = []
    behind = exc.__cause__
    assert isinstance(behind, disttask.RemoteTraceback)
    while (behind := behind.__cause__) is not None:
        found.append(behind)
    return found


def test_what_an_exception_was_raised_from_comes_back_with_it(executor):
    (cause,) = causes_of(executor.submit(raise_from).exception(timeout=10))
    assert type(cause) is KeyError
    assert cause.args == ("missing key",)
    assert causes_of(executor.submit(fail, ValueError).exception(timeout=10)) == []


def test_a_chain_of_causes_keeps_its_order_and_is_bounded(executor):
    numbers = [cause.args[0] for cause in causes_of(executor.submit(raise_chain, 5).exception(timeout=10))]
    assert numbers == [1, 2, 3, 4]
    assert len(causes_of(executor.submit(raise_chain, 100).exception(timeout=10))) == MAX_CAUSES


def test_a_cause_that_cannot_be_rebuilt_costs_only_itself(executor):
    exc = executor.submit(raise_chain, 5, awkward_at=3).exception(timeout=10)
    assert type(exc) is ValueError
    assert [cause.args[0] for cause in causes_of(exc)] == [1, 2]


def raise_circle():
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    raise one


def test_causes_in_a_circle(executor):
    (cause,) = causes_of(executor.submit(raise_circle).exception(timeout=10))
    assert cause.args == (2,)


def test_the_cause_of_a_nested_tasks_exception(executor):
    def outer():
        disttask.submit(raise_from).result(timeout=10)

    (cause,) = causes_of(executor.submit(outer).exception(timeout=10))
    assert type(cause) is KeyError


@pytest.mark.parametrize("kind", [ValueError, KeyError, OSError, UnicodeError, MemoryError, RecursionError])
def test_builtin_exceptions(executor, kind):
    future = executor.submit(fail, kind, "text")
    assert type(future.exception(timeout=10)) is kind
    assert future.exception().args == ("text",)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_exceptions_that_end_programs_are_only_results(executor, kind):
    assert type(executor.submit(fail, kind, 3).exception(timeout=10)) is kind
    assert_usable(executor, 10)


def test_errno_survives(executor):
    exc = executor.submit(open, "/does/not/exist").exception(timeout=10)
    assert isinstance(exc, FileNotFoundError)
    assert (exc.errno, exc.filename) == (2, "/does/not/exist")


@pytest.mark.parametrize(
    ("make", "type_name", "message"),
    [
        (functools.partial(fail, TwoArguments, 1, 2), "test_pickling.TwoArguments", "1 and 2"),
        (functools.partial(fail, HoldsALock), "test_pickling.HoldsALock", "locked up"),
    ],
)
def test_what_cannot_be_rebuilt_is_described(executor, make, type_name, message):
    exc = executor.submit(make).exception(timeout=10)
    assert type(exc) is disttask.RemoteError
    assert (exc.type_name, exc.message) == (type_name, message)
    assert "in fail" in exc.traceback
    assert str(exc).startswith(f"{type_name}: {message} (the exception itself cannot be ")
    assert_usable(executor)


class RudeError(Exception):
    """Whatever one does with it, it raises."""

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__

    def __reduce__(self):
        raise RuntimeError("no pickle")


def test_an_exception_whose_own_methods_raise(executor):
    exc = executor.submit(fail, RudeError).exception(timeout=10)
    assert type(exc) is disttask.RemoteError
    assert exc.type_name == "test_pickling.RudeError"


class ExitsWhenRebuilt(Exception):
    def __reduce__(self):
        return fail, (SystemExit, "while it was rebuilt")


@dataclass(frozen=True)
class Frozen(Exception):
    """Nobody can set an attribute of it, not even its cause."""


@pytest.mark.parametrize(("raised", "kind"), [(ExitsWhenRebuilt, disttask.RemoteError), (Frozen, Frozen)])
@pytest.mark.parametrize("observed", [False, True])
def test_trouble_with_one_exception_is_nobody_elses(executor, raised, kind, observed):
    future, later = executor.submit(fail, raised), executor.submit(add, 1)
    if observed:
        assert not cf.wait([future, later], timeout=10).not_done
    assert type(future.exception(timeout=10)) is kind
    assert "in fail" in str(future.exception().__cause__)
    assert later.result(timeout=10) == 2


def test_a_deep_recursion_comes_back_with_a_short_text(executor):
    def deep(n):
        return deep(n + 1) + "x" * 10

    exc = executor.submit(deep, 0).exception(timeout=20)
    assert isinstance(exc, RecursionError)
    assert len(str(exc.__cause__)) < 100_000


def test_except_catches_a_class_that_was_sent_by_value(executor):
    class Local(Exception):
        pass

    def raising():
        raise Local("here")

    with pytest.raises(Local, match="here"):
        executor.submit(raising).result(timeout=10)


def test_an_exception_class_that_is_made_in_the_worker(executor):
    def raising():
        class Inner(Exception):
            pass

        raise Inner("made there")

    exc = executor.submit(raising).exception(timeout=10)
    assert "made there" in str(exc)
    assert_usable(executor, 10)


@pytest.mark.parametrize("size", [0, 100, 1 << 21])
def test_names_are_found_in_pickles(size):
    """Wherever they stand."""
    for data in (b"name" + bytes(size), bytes(size) + b"name", bytes(size // 2) + b"name" + bytes(size // 2)):
        assert _native.mentions(data, b"name")
        assert not _native.mentions(data, b"names")


def test_a_class_by_value_is_found_in_a_large_result(executor):
    """So that it is not overwritten by the worker's copy of it."""

    class Here:
        count = 0

    def make(here):
        here.count = 7
        return here, "x" * 100_000

    Here.count = 1
    here, _ = executor.submit(make, Here).result(timeout=20)
    assert here is Here
    assert Here.count == 1
