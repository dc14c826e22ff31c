"""What is pickled by the name that it has in a module, though pickle would send a copy of what is behind it.

``from random import random`` gives a method of a generator that the module hides. Pickle sends such a method with its
object, and so the state of the generator with each task, which then all draw the same numbers. Its place in the module
is what is meant.
"""

from __future__ import annotations

import sys
from _io import BytesIO
from _pickle import Pickler
from collections import ChainMap
from copyreg import dispatch_table

from ._native import mentions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import BuiltinMethodType, MethodType
    from typing import Any

_Module: Any = type(sys)

MAINS = ("__main__", "__mp_main__")
"""Modules that are other ones in a worker. The second is what a child of `multiprocessing` calls its parent's first."""

_BOUND = b"\x8c\x07getattr"
"""In each pickle that has a bound method in it (and in few others); ``src/bindings/buffer.rs`` looks for it, too."""


def attribute(module: str, name: str) -> Any:
    """What a module calls by this name, wherever this is unpickled."""
    __import__(module)
    return getattr(sys.modules[module], name)


class Attribute:
    """Stands in a pickle for what a module calls by this name."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return attribute, (self.module, self.name)


def place(method: MethodType | BuiltinMethodType) -> tuple[str, str] | None:
    """The module, and the name in it, that a bound method is to be found by: it must be this very object."""
    bound_to = method.__self__
    if bound_to is None or isinstance(bound_to, (_Module, type)):
        return None  # these go by name anyway
    name = getattr(method, "__name__", None)
    for module in (getattr(method, "__module__", None), type(bound_to).__module__):
        if type(module) is not str or module in MAINS:
            continue
        found = sys.modules.get(module)
        if isinstance(found, _Module) and vars(found).get(name) is method:
            return module, str(name)
    return None


def reduce_method(method: MethodType | BuiltinMethodType) -> str | tuple[Any, ...]:
    """By its place in a module, if it has one, and else as pickle does it."""
    found = place(method)
    return method.__reduce_ex__(5) if found is None else (attribute, found)


METHOD: type = type(Attribute("", "").__reduce__)
"""`types.MethodType`, without that module. For `bindings/handlers.rs`, too."""

_TABLE: Any = ChainMap({type(len): reduce_method, METHOD: reduce_method}, dispatch_table)


class _Pickler(Pickler):
    dispatch_table = _TABLE


def dumps(value: object, protocol: int = 5, *, buffer_callback: Any = None) -> bytes:
    """As `pickle.dumps`, for a value with bound methods in it."""
    with BytesIO() as file:
        _Pickler(file, protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


def methods_by_name(value: object, data: bytes) -> bytes:
    """The value's pickle, where `data` is what `pickle.dumps` makes of it."""
    return dumps(value) if mentions(data, _BOUND) else data
