"""Classes that travel by value are made once per process.

cloudpickle keeps track of them, but makes the class first and then looks whether there was one already: what is made in
vain has run ``__init_subclass__`` and its metaclass, in workers at each load, and in the host when an instance comes
back. It also keeps track of them only as long as somebody else holds them, which in a worker may be nobody between two
tasks.
"""

from __future__ import annotations

from collections import deque

import cloudpickle.cloudpickle as _implementation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ID = "class_tracker_id"

_MAX_LASTING = 1000
"""More classes than a script has. A notebook defines them again and again."""

_lasting: deque[Any] = deque(maxlen=_MAX_LASTING)
"""In a worker: those that are globals of the script, and so last as long as it. Others go when nobody holds them."""


def known_class(tracker_id: str | None) -> type | None:
    """The class that this process has under that id."""
    with _implementation._DYNAMIC_CLASS_TRACKER_LOCK:
        return _implementation._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)  # type: ignore[no-any-return]


def make_class(*args: Any) -> Any:
    """The class, made if there is none yet; ``__dict__`` is filled later."""
    return _known_or_made("_make_skeleton_class", args)


def make_enum(*args: Any) -> Any:
    """The same for an enumeration."""
    return _known_or_made("_make_skeleton_enum", args)


def make_lasting_class(*args: Any) -> Any:
    """As `make_class`, for one that is a global of ``__main__``."""
    return _known_or_made("_make_skeleton_class", args, _lasting)


def make_lasting_enum(*args: Any) -> Any:
    """The same for an enumeration."""
    return _known_or_made("_make_skeleton_enum", args, _lasting)


def _known_or_made(name: str, args: tuple[Any, ...], keeping: deque[Any] | None = None) -> Any:
    at = TRACKER_ID_AT.get(name)
    known = None if at is None else known_class(args[at])
    if known is not None:
        return known
    made = getattr(_implementation, name)(*args)
    if keeping is not None:
        keeping.append(made)
    return made


def _position(name: str) -> int | None:
    """Which argument of cloudpickle's function is the id; ``None`` where it is none that we know."""
    code = getattr(getattr(_implementation, name, None), "__code__", None)
    names: tuple[str, ...] = () if code is None else code.co_varnames[: code.co_argcount]
    return names.index(_ID) if _ID in names else None


def _trackers() -> dict[str, int]:
    if not hasattr(_implementation, "_DYNAMIC_CLASS_TRACKER_BY_ID"):
        return {}
    found = {name: _position(name) for name in ("_make_skeleton_class", "_make_skeleton_enum")}
    return {name: at for name, at in found.items() if at is not None}


TRACKER_ID_AT = _trackers()
"""Where cloudpickle passes a class's id to these functions. Empty, if its inner life has changed: it does it all."""

_OWN = {
    "_make_skeleton_class": (make_class, make_lasting_class),
    "_make_skeleton_enum": (make_enum, make_lasting_enum),
}

MAKERS = {getattr(_implementation, name): _OWN[name] for name in TRACKER_ID_AT}
"""What stands in pickles, in place of cloudpickle's functions: for any class, and for a global of ``__main__``."""

NAMES = {own.__name__: name for name, both in _OWN.items() for own in both}
"""Of ours, and of those that they stand for."""
