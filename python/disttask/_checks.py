"""Arguments that are numbers, or functions to be submitted: an error says what they must be."""

from __future__ import annotations

from ._pickling import importing, task_name

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


def seconds(name: str, value: float, otherwise: str = "") -> float:
    """The value; `otherwise` is what else it might have been.

    Raises:
        TypeError: it is not a number, or a bool.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds{otherwise}, not {type(value).__name__}")
    return value


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

    from ._context import Within
    from ._functions import Task
    from ._options import Guarded

    return func.func if isinstance(func, (partial, Task, Guarded, Within)) else None
