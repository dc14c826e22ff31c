"""Values that can be shown without unpickling them: what a worker makes of the results of tasks that came as text.

Imported where such a task ends: other workers need neither `json` nor `reprlib`.
"""

from __future__ import annotations

import json
import reprlib
import struct
from _pickle import dumps as _pickle_dumps

from ._native import raised_by_handler
from ._pickling import PROTOCOL, _join_sections, _plain, class_name, dumps, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPR_LIMIT_CHARS = 1024
"""What is shown of a value."""

_SHORT_INT = 1 << 64
"""Longer ones go the general way: the interpreter refuses to write very long ones."""

_encode = json.JSONEncoder(allow_nan=False).encode
"""Made once: `json.dumps` makes one for each call that does not want NaN."""

_LENGTHS = struct.Struct("<I3Q").pack
"""Of the sections, as `_join_sections` writes them."""

_CONSTANTS = {None: (b"null", b"None"), True: (b"true", b"True"), False: (b"false", b"False")}

_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdeque = _short.maxdict = 20
_short.maxstring = _short.maxlong = _short.maxother = REPR_LIMIT_CHARS


def describe(value: object) -> bytes:
    """The value as sections (JSON where JSON can hold it, a short repr, the pickle), for `src/pool/answer.rs`.

    Raises:
        Exception: whatever pickling the value raises.
    """
    known = _of_scalar(value)
    if known:
        encoded, text = known
        pickled = _pickle_dumps(value, PROTOCOL)
        return _LENGTHS(3, len(encoded), len(text), len(pickled)) + encoded + text + pickled
    pickled = dumps(value).data
    try:
        encoded = _encode(value).encode()
    except BaseException:  # the value's own methods are asked
        encoded = b""
    return _join_sections([encoded, short_repr(value).encode("utf-8", "backslashreplace"), pickled])


def _of_scalar(value: Any) -> tuple[bytes, bytes] | None:
    """JSON and repr as in general, in a fifth of the time, of what most tasks return."""
    kind = type(value)
    if kind is str:
        if len(value) > REPR_LIMIT_CHARS or len(text := repr(value)) > REPR_LIMIT_CHARS:
            return None
        return _encode(value).encode(), text.encode()
    if kind is int:
        return ((digits := b"%d" % value), digits) if -_SHORT_INT < value < _SHORT_INT else None
    if kind is float:
        digits = repr(value).encode()
        return (digits if value - value == 0 else b""), digits  # JSON has neither infinity nor NaN
    return _CONSTANTS.get(value) if value is None or kind is bool else None


def short_repr(value: object, lets_handlers_through: bool = False) -> str:
    """A `repr` of bounded size; containers are cut before they are formatted.

    It raises nothing, or only what a signal handler raises.
    """
    try:
        text = _plain(_short.repr(value))
    except BaseException as exc:
        if lets_handlers_through and raised_by_handler(exc) is not False:
            raise
        return f"<{type_name(type(value))} whose repr() raises {class_name(type(exc))}>"
    return text if len(text) <= REPR_LIMIT_CHARS else f"{text[: REPR_LIMIT_CHARS - 3]}..."
