"""Callables, values and exceptions to bytes and back.

Plain pickle comes first: it is fast, and an importable function goes by reference. Where it fails, or where the pickle
mentions ``__main__`` (which is another module in a worker), cloudpickle sends definitions by value.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import reprlib
import struct
import threading
import traceback
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ._exceptions import (
    DeserializationError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
    from_failure,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROTOCOL = 5
"""The newest protocol that every supported Python writes."""

TEXT_LIMIT_CHARS = 64 * 1024
"""A longer traceback or message is cut in the middle: both ends matter, and a recursion must not cost megabytes."""

REPR_LIMIT_CHARS = 1024
"""What is shown of a value."""

_MAIN = b"__main__"


class Pickled(NamedTuple):
    """Bytes, and whether they hold code by value (which another Python version cannot load)."""

    data: bytes
    by_value: bool


def dumps(obj: object) -> Pickled:
    """Pickle, by reference where that will do."""
    try:
        data = pickle.dumps(obj, PROTOCOL)
        if _MAIN not in data:
            return Pickled(data, by_value=False)
    except Exception:  # cloudpickle may know how; if not, its error is the better one
        pass
    import cloudpickle  # 50 ms: only where it is needed

    return Pickled(cloudpickle.dumps(obj, PROTOCOL), by_value=True)


def dumps_task(func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> Pickled:
    """Pickle a call.

    Raises:
        SerializationError: names the part that cannot be pickled.
    """
    try:
        return dumps((func, args, kwargs))
    except Exception as exc:
        part = _culprit(func, args, kwargs)
        raise SerializationError(
            f"{part} cannot be pickled, so the task cannot be sent to a worker: {type(exc).__name__}: {exc}. "
            "Pass what it is made from (a path, a URL, plain data) and build it inside the task."
        ) from exc


def _culprit(func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> str:
    parts: list[tuple[str, object]] = [(f"the function {task_name(func)}", func)]
    parts += [(f"argument {position} (of type {type(arg).__name__})", arg) for position, arg in enumerate(args, 1)]
    parts += [(f"argument {name!r} (of type {type(arg).__name__})", arg) for name, arg in kwargs.items()]
    for description, part in parts:
        try:
            dumps(part)
        except Exception:
            return description
    return "the task"


def task_name(func: object) -> str:
    """What to call the function in errors and in `status()`."""
    name = getattr(func, "__qualname__", None)
    if name is None and hasattr(func, "func"):  # functools.partial
        return task_name(func.func)
    return name if isinstance(name, str) else type(func).__qualname__


# --- exceptions, made in the worker and rebuilt in the host ---------------------------------------------------------


class RemoteException(NamedTuple):
    """An exception on its way from a worker. Everything but `pickled` is text, so that something always arrives.

    It travels as sections in this order, which `src/pool/answer.rs` knows: the Rust side shows the texts.
    """

    stage: str  # "load", "run" or "dump"
    type_name: str
    message: str
    traceback: str
    pickled: bytes


def dump_exception(stage: str, exc: BaseException, tb: TracebackType | None, note: str = "") -> bytes:
    """Describe an exception. Never raises, whatever the exception's own methods do."""
    kind = type(exc)
    type_name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        message = _cut(str(exc))
    except BaseException:  # it may even raise SystemExit
        message = "(its str() raises)"
    try:
        text = _cut("".join(traceback.format_exception(kind, exc, tb)))
    except BaseException:
        text = f"{type_name}: {message}\n(its traceback cannot be formatted)"
    pickled = b""
    with contextlib.suppress(BaseException):  # __reduce__ is user code, and this is the last line of defence
        pickled = dumps(exc).data
    texts = (stage, type_name, f"{note}{message}", text)
    return _join_sections([*(text.encode("utf-8", "backslashreplace") for text in texts), pickled])


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT_CHARS:
        return text
    half = TEXT_LIMIT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def load_exception(data: bytes) -> BaseException:
    """The exception to raise in the caller, for what `dump_exception` made."""
    *texts, pickled = _split_sections(data)
    stage, type_name, message, text = (text.decode() for text in texts)
    remote = RemoteException(stage, type_name, message, text, pickled)
    exc = _rebuild(remote)
    # Not `exc.__cause__ = ...`: the class may have a `__setattr__` of its own (a frozen dataclass does).
    BaseException.__setattr__(exc, "__cause__", RemoteTraceback(remote.traceback))
    return exc


def _join_sections(sections: list[bytes]) -> bytes:
    lengths = (len(section) for section in sections)
    return struct.pack(f"<I{len(sections)}Q", len(sections), *lengths) + b"".join(sections)


def _split_sections(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<I", data)
    at = 4 + 8 * count
    sections = []
    for length in struct.unpack_from(f"<{count}Q", data, 4):
        sections.append(data[at : at + length])
        at += length
    return sections


def _rebuild(remote: RemoteException) -> BaseException:
    original: BaseException | None = None
    why: BaseException | None = None
    if remote.pickled:
        loaded, why = _try_to_load(remote.pickled)
        original = loaded if isinstance(loaded, BaseException) else None
    if remote.stage == "run" or not (original is None or isinstance(original, Exception)):
        if original is not None:
            return original
        reason = "cannot be pickled" if why is None else f"cannot be rebuilt: {type(why).__name__}: {why}"
        return RemoteError(remote.type_name, remote.message, remote.traceback, reason)
    what = f"{remote.type_name}: {remote.message}"
    if remote.stage == "dump":
        return SerializationError(f"the task returned something that cannot be pickled: {what}")
    return DeserializationError(
        f"the task cannot be loaded in the worker: {what}. Its function must be importable there (same sys.path as "
        "when the executor was made), or be a plain function of __main__ or a notebook (one under functools.lru_cache "
        "must be in a module); its arguments must unpickle."
    )


def load_outcome(kind: str, data: Any) -> tuple[Any, BaseException | None]:
    """The value or the exception, for an outcome of the Rust side. `kind` is not "cancelled"."""
    if kind == "failed":
        return None, from_failure(data)
    if kind == "error":
        return None, load_exception(data)
    value, exc = _try_to_load(data)
    if isinstance(exc, Exception):
        error = DeserializationError(f"the task's result cannot be unpickled here: {type(exc).__name__}: {exc}")
        error.__cause__ = exc
        return None, error
    return value, exc


def _try_to_load(data: bytes | tuple[bytes, list[Any]]) -> tuple[Any, BaseException | None]:
    """The value, or what loading it raised, whatever that is: unpickling runs the user's code."""
    try:
        return (loads(data) if isinstance(data, bytes) else loads(*data)), None
    except BaseException as exc:
        if isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # Ctrl-C is for the caller, not for the future
        return None, exc


# --- values that can be shown without unpickling them ----------------------------------------------------------------


def describe(value: object) -> bytes:
    """The value as sections (JSON where JSON can hold it, a short repr, the pickle), for `src/pool/answer.rs`.

    Raises:
        Exception: whatever pickling the value raises.
    """
    pickled = dumps(value).data
    encoded = b""
    with contextlib.suppress(Exception):
        encoded = json.dumps(value, allow_nan=False).encode()
    return _join_sections([encoded, short_repr(value).encode("utf-8", "backslashreplace"), pickled])


def short_repr(value: object) -> str:
    """A `repr` of bounded size; containers are cut before they are formatted. Never raises."""
    try:
        text = _SHORT.repr(value)
    except Exception as exc:
        return f"<{type(value).__qualname__} whose repr() raises {type(exc).__name__}>"
    return text if len(text) <= REPR_LIMIT_CHARS else f"{text[: REPR_LIMIT_CHARS - 3]}..."


_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdeque = _SHORT.maxdict = 20
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = REPR_LIMIT_CHARS


# --- classes that travel by value ------------------------------------------------------------------------------------


def loads(data: bytes, buffers: list[Any] | None = None) -> Any:
    """Unpickle something that a worker made.

    A class of this process that went to the worker by value comes back as itself (cloudpickle keeps track of it), but
    cloudpickle would then overwrite its attributes with the worker's copies. That is left out here.
    """
    if b"_class_setstate" in data:
        return _ClassKeepingUnpickler(io.BytesIO(data), buffers=buffers).load()
    return pickle.loads(data, buffers=buffers)


class _ClassKeepingUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, buffers: list[Any] | None = None) -> None:
        super().__init__(file, buffers=buffers)
        self._ours: set[int] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module.startswith("cloudpickle"):
            if name in _TRACKER_ID_AT:
                return lambda *args: self._skeleton(found, args, _TRACKER_ID_AT[name])
            if name == "_class_setstate":
                return lambda cls, state: self._set_state(found, cls, state)
        return found

    def _skeleton(self, make: Callable[..., type], args: tuple[Any, ...], tracker_id_at: int) -> type:
        import cloudpickle.cloudpickle as implementation

        with implementation._DYNAMIC_CLASS_TRACKER_LOCK:
            known = implementation._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[tracker_id_at])
        cls = make(*args)
        if known is None:
            _unfinished.add(cls)
        elif known not in _unfinished:
            self._ours.add(id(cls))
        return cls

    def _set_state(self, set_state: Callable[[type, Any], type], cls: type, state: Any) -> type:
        if id(cls) in self._ours:
            return cls
        set_state(cls, state)
        _unfinished.discard(cls)
        return cls


_TRACKER_ID_AT = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}
"""Where cloudpickle (3.0 to 3.1) passes a class's tracker id to these functions."""

_unfinished: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes whose state has not arrived: loading it failed or was interrupted, or goes on in another thread."""
