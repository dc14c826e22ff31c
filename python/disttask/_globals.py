"""Globals of ``__main__`` that an initializer sets, in the worker.

What is defined in ``__main__`` travels by value, and each function that arrives has globals of its own. But what an
initializer does to them (``global MODEL``, a cache that it fills) is meant for all tasks of the worker: it is kept, and
given to each function of ``__main__`` that arrives later, in place of what the function has brought along.
"""

from __future__ import annotations

import contextlib
import sys

from ._references import MAINS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_kept: dict[str, Any] = {}

_CONTAINERS = (dict, list, set)
"""What is looked into for changes: what else may be changed in place, nobody can tell."""


@contextlib.contextmanager
def kept(function: Callable[..., object]) -> Iterator[None]:
    """Keep what the function, if it is one of ``__main__``, does to its globals meanwhile."""
    scope = getattr(function, "__globals__", None)
    if scope is None or getattr(function, "__module__", None) not in MAINS:
        yield
        return
    before = {name: (value, _copy(value)) for name, value in scope.items()}
    yield
    _kept.update({name: value for name, value in scope.items() if _has_changed(before.get(name), value)})
    _kept.pop("__builtins__", None)
    if _kept:
        _give_to_all()


def _copy(value: object) -> object:
    return value.copy() if isinstance(value, _CONTAINERS) else None


def _has_changed(before: tuple[object, object] | None, now: object) -> bool:
    if before is None or before[0] is not now:
        return True
    try:
        return isinstance(now, _CONTAINERS) and bool(now != before[1])
    except Exception:
        return True  # arrays in it do not say whether they are equal


def _give_to_all() -> None:
    implementation: Any = sys.modules["cloudpickle.cloudpickle"]  # which has brought the initializer
    set_state = implementation._function_setstate

    def _function_setstate(function: Any, state: Any) -> Any:
        result = set_state(function, state)
        if function.__module__ in MAINS:
            function.__globals__.update(_kept)
        return result

    # What a worker pickles names it: there it must be cloudpickle's.
    _function_setstate.__module__, _function_setstate.__qualname__ = set_state.__module__, set_state.__qualname__
    implementation._function_setstate = _function_setstate
