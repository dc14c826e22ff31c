"""Arguments that are numbers, or functions to be submitted: an error says what they must be."""

from __future__ import annotations

import time

from ._pickling import importing, task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_COROUTINE = 0x80
"""`inspect.CO_COROUTINE`, without what `inspect` imports."""


def whole(name: str, value: int, low: int, high: int) -> int:
    """The value.

    Raises:
        TypeError: it is not an int, or a bool.
        ValueError: it is out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}")
    return value


def truth(name: str, value: bool) -> bool:
    """The value.

    Raises:
        TypeError: it is not a bool: the text "false" would be true.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}")
    return value


def seconds(name: str, value: float, otherwise: str = "") -> float:
    """The value; `otherwise` is what else it might have been.

    Raises:
        TypeError: it is not a number, or a bool.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{otherwise}, not {type(value).__name__}")
    return value


def deadline(timeout: float | None) -> float | None:
    """When so many seconds are over, as `time.monotonic` counts. ``None``: never.

    Raises:
        TypeError: it is no number of seconds.
        ValueError: it is not a number.
    """
    if timeout is None:
        return None
    try:
        end = time.monotonic() + timeout
    except TypeError:
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}") from None
    if end != end:
        raise ValueError("timeout must be a number of seconds or None, not nan")
    return end


def task_ids(ids: Iterable[Any]) -> list[Any]:
    """The ids, as a list.

    Raises:
        TypeError: it is one id, one future, or what else is no list.
    """
    if isinstance(ids, str):
        raise TypeError("ids must be a list of task ids, not one string: get_results([task_id])")
    if not can_be_iterated(ids):
        raise TypeError(f"ids must be a list of task ids or None, not {type(ids).__name__}")
    return list(ids)


def limit(name: str, value: int | None, most: int, what: str = "an int") -> int | None:
    """The value, cut to what the native side can count (`most`); ``None``: no limit.

    Raises:
        TypeError: it is neither an int (`what`, in words) nor ``None``.
        ValueError: it is less than 1.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be {what} or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, not {value}; None means no limit")
    return min(value, most)


def bytes_limit(name: str, value: int | None) -> int | None:
    """As `limit`, in bytes."""
    return limit(name, value, 2**64 - 1, "a number of bytes (an int)")


def seconds_limit(name: str, value: float | None) -> float | None:
    """The value; ``None``: no limit.

    Raises:
        TypeError: it is neither a number nor ``None``.
        ValueError: it is not more than 0.
    """
    if value is not None and not seconds(name, value, " or None") > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}; None means no limit")
    return value


def several(name: str, values: Iterable[Any], what: str) -> list[Any]:
    """The values, as a list; `what` says what they are.

    Raises:
        TypeError: there are no several: it cannot be iterated over, or is a text, whose letters nobody means.
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} must be a list of {what}, not a {type(values).__name__}: {name}=[{values!r}]")
    if not can_be_iterated(values):
        raise TypeError(f"{name} must be a list of {what}, not {type(values).__name__}")
    return list(values)


def can_be_iterated(values: object) -> bool:
    """Whether `iter` would take it. Nothing is read."""
    return hasattr(type(values), "__iter__") or hasattr(type(values), "__getitem__")


def to_iterate(where: str, func: object, iterables: tuple[object, ...]) -> None:
    """Refuse what is no input of `map` or one of its relatives, which is `where`.

    Raises:
        TypeError: it cannot be iterated over, or `func`, which goes first, cannot be submitted.
    """
    for values in iterables:
        if not can_be_iterated(values):
            to_submit("map", func)  # if that is no function, the two were given in another order
            advice = f"{where}(f, {[(1, 2), (3, 4)] if where == 'starmap' else [1, 2, 3]}) makes a call for each item"
            if len(iterables) > 1:
                advice += "; what is the same for all of them goes as itertools.repeat(x)"
            raise TypeError(f"{where} needs something to iterate over, not {type(values).__name__}: {advice}")


def star_item(exc: TypeError) -> TypeError | None:
    """What to say of an item of `starmap` that holds no arguments, if that is what this is about."""
    by_python_code = exc.__traceback__ is None or exc.__traceback__.tb_next is not None  # of the input's
    if by_python_code or not str(exc).endswith("is not iterable"):
        return None
    return TypeError(
        "each item of starmap must hold all arguments of a call, as in starmap(f, [(1, 2), (3, 4)]), and one does not "
        f"({exc}): for a function of one argument there is map(f, [1, 2])"
    )


def to_submit(where: str, func: object) -> None:
    """Refuse what a worker could not call for a result. `where` is the function that was given it.

    Raises:
        TypeError: it is not callable, or an ``async def`` function.
    """
    if not callable(func):
        raise TypeError(f"{where} needs a callable, not {type(func).__name__}: {_advice(where, func)}")
    if is_async(func):
        name = task_name(func)
        raise TypeError(
            f"{name} is an async def function: a call of it gives a coroutine, which cannot leave its process. Submit "
            f"a function that runs it: def run(*args): return asyncio.run({name.rpartition('.')[2]}(*args))"
        )


def _advice(where: str, func: object) -> str:
    if isinstance(func, (str, bytes)):
        return "a text of serialize_task (a str) goes to disttask.submit, or to Client.submit"
    return f"the function is given without being called, {where}(f, x) and not {where}(f(x))"


def is_async(func: object) -> bool:
    """As `inspect.iscoroutinefunction`; also of what `functools.partial` and our own wrappers hold."""
    code = getattr(func, "__code__", None)
    if code is None and not isinstance(func, type):
        inner = _held(func)
        if inner is not None:
            return is_async(inner)
        code = getattr(type(func).__call__, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & _COROUTINE)


def _held(func: object) -> object:
    """The function in a wrapper that only calls it."""
    importing("disttask._context")
    from functools import partial
    from types import MethodType

    from ._context import Within
    from ._functions import Task
    from ._options import Guarded

    if type(func) is MethodType:  # has the attributes of its function, but a `Task` has no code
        return func.__func__ if type(func.__func__) is Task else None
    return func.func if isinstance(func, (partial, Task, Guarded, Within)) else None
