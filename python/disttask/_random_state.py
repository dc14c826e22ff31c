"""A word to whoever submits a function that brings a generator of random numbers along: its state goes with each task.

A process that imports the script again would have made one of its own. Here every task gets a copy of the same, and
all draw the same numbers.
"""

from __future__ import annotations

import sys
import types
import weakref

from ._references import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_METHODS = (types.MethodType, types.BuiltinMethodType)

_NUMPYS = ("Generator", "RandomState", "BitGenerator")


class Found:
    """A function, and the generator that it brings along."""

    __slots__ = ("func", "kind", "what")

    def __init__(self, func: Callable[..., Any], what: str, kind: type) -> None:
        self.func = func
        self.what = what
        self.kind = kind


_told: dict[int, tuple[weakref.ref[Any], set[int | None]]] = {}
"""Functions by address, and the pools for which it was told."""


_OTHERS = frozenset((types.FunctionType, types.ModuleType, type, int, float, str, bytes, bool, tuple, list, dict, set))
"""What is certainly none, which is most of what functions use."""


def generator_in(func: types.FunctionType, scope: Mapping[str, Any], kinds: tuple[type, ...]) -> Found | None:
    """The first among these globals of the function, and the variables of its closure.

    One that the function seeds itself is none.
    """
    for name, value in scope.items():
        if type(value) not in _OTHERS and (kind := _kind(value, kinds)) is not None:
            return _found(func, f"global `{name}`", kind)
    for name, cell in zip(func.__code__.co_freevars, func.__closure__ or (), strict=False):
        value = _content(cell)
        if type(value) not in _OTHERS and (kind := _kind(value, kinds)) is not None:
            return _found(func, f"closure variable `{name}`", kind)
    return None


def _found(func: types.FunctionType, what: str, kind: type) -> Found | None:
    return None if "seed" in func.__code__.co_names else Found(func, what, kind)


def _kind(value: Any, kinds: tuple[type, ...]) -> type | None:
    """Its class, if it is a generator, or a method of one: ``roll = rng.randint`` brings it along, too."""
    if isinstance(value, _METHODS):
        value = None if place(value) is not None else value.__self__
    kind = type(value)
    return kind if issubclass(kind, kinds) and kind.__name__ != "SystemRandom" else None


def generator_kinds() -> tuple[type, ...]:
    """The classes of generators, of those modules that are there."""
    random, numpys = sys.modules.get("random"), sys.modules.get("numpy.random")
    found = [getattr(random, "Random", None), *(getattr(numpys, name, None) for name in _NUMPYS)]
    return tuple(kind for kind in found if isinstance(kind, type))


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def tell(found: Iterable[Found], pool_id: int | None) -> None:
    """Warn of these, once for a function and a pool. ``None``: whoever calls sees to that.

    Nothing was submitted yet, so the warning may be an exception.
    """
    whole: set[int | None] = set()
    for each in found:
        key, pools = (pool_id, _pools(each.func)) if pool_id is not None else (id(each.func), whole)
        if key not in pools:
            _warn(each)
            pools.add(key)


def _pools(func: Callable[..., Any]) -> set[int | None]:
    key = id(func)
    known = _told.get(key)
    if known is None or known[0]() is not func:

        def forget(gone: weakref.ref[Any], told: dict[int, Any] = _told) -> None:
            if key in told and told[key][0] is gone:
                told.pop(key, None)

        known = _told[key] = (weakref.ref(func, forget), set())
    return known[1]


def _warn(found: Found) -> None:
    from ._captures import warn
    from ._pickling import task_name, type_name

    numpys = found.kind.__module__.startswith("numpy")
    made = "numpy.random.default_rng(seed)" if numpys else "random.Random(seed)"
    warn(
        f"the {found.what} (of type {type_name(found.kind)}) that {task_name(found.func)} uses travels with each task, "
        "as it is here, so that all of them draw the same numbers: make it in the initializer of the executor, once "
        f"in each worker; or in the task, as in rng = {made}, where each task is given a seed of its own"
    )
