"""A word to whoever submits a function again and again that carries much data: it is pickled and sent each time.

Only what is certain is told: that it is the very same object, and that its pickle is the same, too. What has changed
meanwhile must be sent again.
"""

from __future__ import annotations

import contextlib
import sys
import types
import warnings
import weakref

from ._context import Within
from ._functions import Task
from ._inputs import Collecting
from ._options import Guarded
from ._pickling import LARGE_BYTES, dumps, task_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_MAX_MEASURED = 3
"""How often one function's data is looked at, which costs a pickle. Where they all differ, nothing is wrong."""

_WRAPPERS = (Guarded, Task, Within)
"""Ours: what is in them is the user's function."""


class _Met:
    """What was submitted in a large task. It is not kept alive."""

    __slots__ = ("measured", "pickle_hash", "ref", "silent", "size")

    def __init__(self, ref: weakref.ref[Any]) -> None:
        self.ref = ref
        self.measured = 0
        self.pickle_hash = 0
        self.size = 0
        """Of a pickle that was the same twice."""
        self.silent = False


_met: dict[int, _Met] = {}
"""By address: what equals what is the user's code to say."""


def note_large(pool_id: int, func: Callable[..., Any], *, can_be_task: bool) -> None:
    """A large task is about to be submitted: warn at the third of a function that carries the same data each time.

    Nothing was submitted yet, so the warning may be an exception. `can_be_task`: `disttask.task` would help.
    """
    carrier: Any = func
    while isinstance(carrier, _WRAPPERS):
        carrier = carrier.func
    can_be_task = can_be_task and carrier is func  # what is wrapped is wrapped anew each time
    name = task_name(carrier)
    if isinstance(carrier, (types.MethodType, types.BuiltinMethodType)):
        carrier = carrier.__self__
    met = _meet(carrier)
    if met is None or met.silent:
        return
    if not met.size:
        _measure(met, pool_id, carrier)
    if met.size:
        met.silent = True
        try:
            _warn(name, met.size, can_be_task)
        except BaseException:  # one that is an exception is raised for each submit
            met.silent = False
            raise


def _meet(carrier: Any) -> _Met | None:
    """What is known of it; ``None`` where it is met for the first time, or cannot be told from others."""
    key = id(carrier)
    met = _met.get(key)
    if met is not None and met.ref() is carrier:
        return met

    def forget(gone: weakref.ref[Any], known: dict[int, _Met] = _met) -> None:
        if key in known and known[key].ref is gone:
            known.pop(key, None)

    with contextlib.suppress(TypeError):  # a list, whose `count` this is, say
        _met[key] = _Met(weakref.ref(carrier, forget))
    return None


def _measure(met: _Met, pool_id: int, carrier: Any) -> None:
    try:
        with Collecting(pool_id).noted():
            data = dumps(carrier).data
    except Exception:
        data = b""
    pickle_hash = hash(data)
    if len(data) < LARGE_BYTES:  # what is large is among the arguments
        met.silent = True
    elif met.measured > 0 and pickle_hash == met.pickle_hash:
        met.size = len(data)
    else:
        met.pickle_hash = pickle_hash
        met.measured += 1
        met.silent = met.measured == _MAX_MEASURED


def _warn(name: str, size: int, can_be_task: bool) -> None:
    text = (
        f"{name} carries {size / 1e6:.0f} MB of data, which are pickled and sent anew with each task: put the data "
        "into the pool once, data = executor.put(data), and pass that as an argument"
    )
    if can_be_task:
        text += "; or submit disttask.task(function), made once, which is pickled once, as it then is"
    warn(text)


def warn(text: str) -> None:
    """Warn at the line that has called into disttask."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "disttask":
        frame = frame.f_back
        level += 1
    warnings.warn(text, UserWarning, stacklevel=level)
