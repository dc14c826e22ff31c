"""Classes with ``__slots__`` that travel by value keep them.

cloudpickle makes such a class without its slots: instances in a worker would have a ``__dict__`` instead, take any
attribute, and could not come back.
"""

from __future__ import annotations

import abc
from enum import Enum
from types import GetSetDescriptorType, MemberDescriptorType

import cloudpickle.cloudpickle as _implementation

from ._classes import MAKERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Parts = tuple[Callable[..., Any], tuple[Any, ...], Any, None, None, Callable[..., Any]]

_WORD_BYTES = object.__basicsize__ // 2
"""Of an object: a count and a class."""

_NO_STATE = ("__dict__", "__weakref__", "__annotate_func__")
"""What each class has of its own."""

_USED = ("_class_getnewargs", "_class_setstate", "_extract_class_dict", "_make_skeleton_class")

_is_known = bool(MAKERS) and all(hasattr(_implementation, name) for name in (*_USED, "_should_pickle_by_reference"))
"""cloudpickle's inner life is what it was when this was written. Else it does it all."""


def with_slots(cls: type) -> Parts | None:
    """How to pickle the class, if it travels by value and has slots."""
    if not _is_known or "__slots__" not in vars(cls):
        return None
    if issubclass(cls, Enum) or _is_typed_tuple(cls) or _implementation._should_pickle_by_reference(cls):
        return None
    slots = _slots(cls)
    kind, name, bases, namespace, *rest = _implementation._class_getnewargs(cls)
    args = (kind, name, bases, {**namespace, "__slots__": slots}, *rest)
    set_state = _implementation._class_setstate
    return _implementation._make_skeleton_class, args, (_state(cls, slots), {}), None, None, set_state


def _is_typed_tuple(cls: type) -> bool:
    """Whether it is made by `typing.NamedTuple`, which says itself that there are no slots, and lets nobody else."""
    return issubclass(cls, tuple) and {"_fields", "__orig_bases__"} <= vars(cls).keys()


def _slots(cls: type) -> Any:
    """As the class declares them, if they are made of that again; else their names, as they are within the class."""
    declared: Any = vars(cls)["__slots__"]
    again = () if hasattr(declared, "__next__") else (declared,) if isinstance(declared, str) else tuple(declared)
    names = [name for name, value in vars(cls).items() if _is_made(cls, value)]
    inner = [_inner(cls, name) for name in again]
    # One whose descriptor was replaced, by one that has a default, say.
    replaced = [name for name in inner if name not in names and name not in ("__dict__", "__weakref__")]
    names += replaced[: _count(cls) - sum(type(vars(cls)[name]) is MemberDescriptorType for name in names)]
    return declared if again and set(inner) == set(names) else tuple(names)


def _is_made(cls: type, value: Any) -> bool:
    """Whether it is the descriptor of a slot, or that of ``__dict__`` or ``__weakref__``, which are slots, too."""
    return type(value) in (MemberDescriptorType, GetSetDescriptorType) and value.__objclass__ is cls


def _inner(cls: type, name: str) -> str:
    """The name of a private one begins with that of the class."""
    outer = cls.__name__.lstrip("_")
    return f"_{outer}{name}" if outer and name.startswith("__") and not name.endswith("__") else name


def _count(cls: type) -> int:
    """How many there are by its size."""
    base: type = cls.__base__ or object
    words = (cls.__basicsize__ - base.__basicsize__) // _WORD_BYTES
    words -= cls.__weakrefoffset__ > 0 and base.__weakrefoffset__ == 0
    return words - (cls.__dictoffset__ > 0 and base.__dictoffset__ == 0)


def _state(cls: type, slots: Any) -> dict[str, Any]:
    found: dict[str, Any] = _implementation._extract_class_dict(cls)
    state = {
        name: value
        for name, value in found.items()
        if name not in _NO_STATE and name != "_abc_impl" and not _is_made(cls, value)
    }
    declared = vars(cls)["__slots__"]
    state["__slots__"] = slots if hasattr(declared, "__next__") else declared
    if issubclass(type(cls), abc.ABCMeta):
        registry = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
        state["_abc_impl"] = [reference() for reference in registry]
    return state
