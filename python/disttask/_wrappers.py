"""What `functools` wraps around functions: by its parts.

It holds what does not travel (a lock, weak references), or would be looked up by a name that is none in a worker. What
it has cached stays here.
"""

from __future__ import annotations

import functools

from ._references import MAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType
    from typing import Any


# --- lru_cache --------------------------------------------------------------------------------------------------------

_Cached: Any = type(functools.lru_cache(len))


def _reduce_cached(function: Any) -> str | tuple[Any, ...]:
    if function.__module__ not in MAINS:
        return function.__reduce__()  # type: ignore[no-any-return]
    kept = {name: value for name, value in vars(function).items() if name != "__wrapped__"}
    parameters = function.cache_parameters()
    return cached, (function.__wrapped__, parameters["maxsize"], parameters["typed"]), kept


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """The function under `functools.lru_cache`."""
    return functools.lru_cache(maxsize, typed)(function)


# --- cached_property --------------------------------------------------------------------------------------------------


def _reduce_cached_property(prop: Any) -> tuple[Any, ...]:
    """Without its lock, which it has up to Python 3.11."""
    kept = {name: value for name, value in vars(prop).items() if name not in ("func", "lock")}
    return functools.cached_property, (prop.func,), kept


# --- singledispatch ---------------------------------------------------------------------------------------------------

_DISPATCHING = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]
"""The code of all such functions."""

_OWN = frozenset(("registry", "dispatch", "register", "_clear_cache"))
"""Attributes that each of them has of its own."""

_NAMES = ("__module__", "__name__", "__qualname__", "__doc__")


def _reduce_dispatching(func: FunctionType) -> tuple[Any, ...]:
    """Of a function under `functools.singledispatch`. What is registered there may use the function itself."""
    generic: Any = func
    attributes = {name: value for name, value in vars(func).items() if name not in _OWN}
    names = {name: getattr(func, name) for name in _NAMES}
    state = dict(generic.registry), attributes, names
    return make_dispatching, (func.__name__,), state, None, None, fill_dispatching


def make_dispatching(name: str) -> Any:
    """One for which nothing is registered. What it was made of gives it its name in messages."""

    def unregistered(*_: Any) -> None:
        raise NotImplementedError(name)

    unregistered.__name__ = name
    return functools.singledispatch(unregistered)


def fill_dispatching(func: Any, state: tuple[dict[Any, Any], dict[str, Any], dict[str, Any]]) -> None:
    """Register what was registered."""
    registry, attributes, names = state
    functools.update_wrapper(func, attributes.get("__wrapped__", func))
    vars(func).update(attributes)
    for name, value in names.items():
        setattr(func, name, value)
    for kind, registered in registry.items():
        func.register(kind, registered)


def _reduce_dispatching_method(method: Any) -> tuple[Any, ...]:
    """Without the cache of bound ones, which it has since Python 3.13."""
    return make_dispatching_method, (), {name: value for name, value in vars(method).items() if name != "_method_cache"}


def make_dispatching_method() -> Any:
    """One without its state."""
    return functools.singledispatchmethod(make_dispatching(""))


def _bound_code() -> Any:
    bound = functools.singledispatchmethod(lambda _: None).__get__(None, object)
    return getattr(bound, "__code__", None)  # another kind of object since Python 3.14


_BOUND = _bound_code()
"""The code of all methods that dispatch: such a one is a function, which has its object in its closure."""


def _reduce_bound(func: FunctionType) -> tuple[Any, ...] | None:
    """By its object and its name, if that is where it is from."""
    values = dict(zip(func.__code__.co_freevars, func.__closure__ or (), strict=True))
    method: Any = getattr(vars(func).get("register"), "__self__", None)
    try:
        bound_to, cls = values["obj"].cell_contents, values["cls"].cell_contents
    except (KeyError, ValueError):
        return None
    name = func.__name__
    found = next((vars(each)[name] for each in cls.__mro__ if name in vars(each)), None)
    return None if found is None or found is not method else (getattr, (cls if bound_to is None else bound_to, name))


WRAPPERS: dict[type, Callable[[Any], Any]] = {
    _Cached: _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    functools.singledispatchmethod: _reduce_dispatching_method,
}
"""How to pickle them."""


def reduce_function(func: FunctionType) -> tuple[Any, ...] | None:
    """How to pickle a function that dispatches, if it is one."""
    code = func.__code__
    if code is _DISPATCHING:
        return _reduce_dispatching(func)
    return _reduce_bound(func) if code is _BOUND else None


STANDING = (cached, make_dispatching, fill_dispatching, make_dispatching_method)
"""What stands in pickles, to be called there."""
