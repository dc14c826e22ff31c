"""Exception groups that a task raises: a member that cannot be rebuilt stands as a `RemoteError` among the others."""

import threading

import pytest

import disttask


class Odd(Exception):
    """Its pickle holds one argument, and it wants two."""

    def __init__(self, number, why):
        super().__init__(f"{number}: {why}")

    def __reduce__(self):
        return Odd, self.args


class Locked(Exception):
    """It cannot be pickled."""

    def __init__(self):
        super().__init__(threading.Lock())

    def __str__(self):
        return "locked"


class Coded(ExceptionGroup):
    """As the documentation of `derive` has it: a code that the groups made of it have, too."""

    def __new__(cls, message, excs, code):
        made = super().__new__(cls, message, excs)
        made.code = code
        return made

    def derive(self, excs):
        return Coded(self.message, excs, self.code)

    def __reduce__(self):
        return Coded, (self.message, self.exceptions, self.code)


class Bare(ExceptionGroup):
    """A group that cannot be sent itself, nor what is derived from it."""

    def derive(self, excs):
        return Bare(self.message, excs)

    def __reduce__(self):
        raise TypeError("it stays here")


def throw(make):
    raise make()


def flat():
    group = ExceptionGroup("several", [ValueError(1), Odd(2, "odd"), KeyError("three"), Locked()])
    group.add_note("of the task's own")
    return group


def raised(executor, make):
    return executor.submit(throw, make).exception(timeout=20)


def test_the_others_are_themselves(executor):
    exc = raised(executor, flat)
    assert type(exc) is ExceptionGroup
    assert exc.message == "several"
    assert [type(member) for member in exc.exceptions] == [
        ValueError,
        disttask.RemoteError,
        KeyError,
        disttask.RemoteError,
    ]
    assert exc.exceptions[0].args == (1,)
    odd, locked = exc.exceptions[1], exc.exceptions[3]
    assert odd.type_name.endswith("Odd")
    assert odd.message == "2: odd"
    assert "missing 1 required" in odd.reason
    assert locked.reason == "cannot be pickled"
    assert exc.__notes__ == ["of the task's own"]
    assert type(exc.__cause__) is disttask.RemoteTraceback


def test_except_star_finds_them(executor):
    caught = []
    try:
        executor.submit(throw, flat).result(timeout=20)
    except* ValueError as group:
        caught.append(group)
    except* disttask.RemoteError as group:
        caught.append(group)
    except* KeyError as group:
        caught.append(group)
    assert [len(group.exceptions) for group in caught] == [1, 2, 1]


def test_groups_in_groups(executor):
    def nested():
        inner = ExceptionGroup("inner", [OSError(2, "gone"), Odd(3, "deep")])
        return BaseExceptionGroup("outer", [inner, KeyboardInterrupt("stop"), ExceptionGroup("whole", [ValueError(4)])])

    exc = raised(executor, nested)
    assert type(exc) is BaseExceptionGroup
    inner, stop, whole = exc.exceptions
    assert type(inner) is ExceptionGroup
    assert inner.message == "inner"
    assert [type(member) for member in inner.exceptions] == [FileNotFoundError, disttask.RemoteError]
    assert type(stop) is KeyboardInterrupt
    assert repr(whole) == repr(ExceptionGroup("whole", [ValueError(4)]))


def one():
    return ValueError(1)


def other():
    return Odd(2, "odd")


@pytest.mark.parametrize("members", [[one], [one, other]], ids=["whole", "one cannot"])
def test_a_class_derives_its_own(executor, members):
    exc = raised(executor, lambda: Coded("coded", [make() for make in members], 7))
    assert type(exc) is Coded
    assert exc.code == 7
    assert [type(member) for member in exc.exceptions] == [ValueError, disttask.RemoteError][: len(members)]


def test_a_group_that_cannot_be_rebuilt_itself_is_a_plain_one(executor):
    exc = raised(executor, lambda: Bare("bare", [ValueError(1), Odd(2, "odd")]))
    assert type(exc) is ExceptionGroup
    assert exc.message == "bare"
    assert [type(member) for member in exc.exceptions] == [ValueError, disttask.RemoteError]


def test_what_it_was_raised_from_comes_along(executor):
    def chained():
        try:
            raise KeyError("first")
        except KeyError as exc:
            raise ExceptionGroup("then", [Odd(1, "odd"), ValueError(2)]) from exc

    exc = executor.submit(chained).exception(timeout=20)
    assert type(exc.exceptions[1]) is ValueError
    assert type(exc.__cause__.__cause__) is KeyError


def test_in_a_map(executor):
    (exc,) = executor.map(throw, [flat], return_exceptions=True)
    assert type(exc.exceptions[2]) is KeyError
