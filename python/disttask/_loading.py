"""What workers made, back to values and exceptions; and calls to bytes. Only the host needs this."""

from __future__ import annotations

import io
import itertools
import operator
import re
import struct
import sys
import threading
import weakref
from _pickle import Unpickler
from _pickle import loads as _pickle_loads  # `pickle.loads` itself, without what the module `pickle` imports
from concurrent.futures import CancelledError

from ._exceptions import (
    FAILURES,
    DeserializationError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
    from_failure,
)
from ._native import mentions
from ._pickling import Pickled, add_note, brief, dumps, importing, own_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any


def dumps_task(func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> Pickled:
    """Pickle a call.

    Raises:
        SerializationError: names the part that cannot be pickled.
        Exception: a signal handler has raised it.
    """
    hits: list[BaseException] = []
    try:
        pickled = dumps((func, args, kwargs), hits)
    except Exception as exc:
        if hits:
            raise hits.pop() from None  # whether the call can be pickled, the next submit of it will say
        # Without a name for the failure: it would be in a cycle with this frame.
        raise _unpicklable(  # noqa: B904 - it has its cause
            func, args, kwargs, own_failure(lambda: dumps((func, args, kwargs)), exc)
        )
    if hits:
        raise hits.pop()
    return pickled


UNSENT = ", so the task cannot be sent to a worker"


def _unpicklable(
    func: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object], exc: BaseException | None
) -> SerializationError:
    importing("disttask._culprit")
    from ._culprit import refusal

    error = refusal(func, args, kwargs, exc, UNSENT)
    error.__cause__ = exc
    return error


# --- exceptions -----------------------------------------------------------------------------------------------------

_REBUILDING = "disttask._rebuilding"
"""What loads exceptions whose class does not do it itself."""


class RemoteException:
    """An exception on its way from a worker; see `_pickling.dump_exception`. `stage` is "load", "run" or "dump"."""

    def __init__(self, data: bytes) -> None:
        *texts, self.pickled = _split_sections(data)
        self.stage, self.type_name, self.message, self.traceback, *self.notes = (text.decode() for text in texts)


def load_exception(data: bytes) -> BaseException:
    """The exception to raise in the caller, for what `dump_exception` made."""
    remote = RemoteException(data)
    exc, causes = _rebuild(remote)
    for note in remote.notes:
        add_note(exc, note)
    raised: BaseException = exc
    for cause in (RemoteTraceback(_with_source(remote.traceback)), *causes):
        # Not `raised.__cause__ = ...`: a class may have a `__setattr__` (a frozen dataclass does), or such a property.
        BaseException.__dict__["__cause__"].__set__(raised, cause)
        raised = cause
    return exc


_BARE_FRAME = re.compile(r'^  File "(.+)", line (\d+), in .*\n(?!    )', re.MULTILINE)
"""A frame of a traceback, without the line of source that follows where there is a file."""


def _with_source(traceback: str) -> str:
    """The traceback, with source that only this process has: cells of a notebook are files of its `linecache`."""
    linecache = sys.modules.get("linecache")
    if linecache is None:
        return traceback

    def frame(match: re.Match[str]) -> str:
        name, line = match[1], int(match[2])
        source = linecache.getline(name, line).strip() if name in linecache.cache else ""
        return f"{match[0]}    {source}\n" if source else match[0]

    return _BARE_FRAME.sub(frame, traceback)


def _split_sections(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<I", data)
    at = 4 + 8 * count
    sections = []
    for length in struct.unpack_from(f"<{count}Q", data, 4):
        sections.append(data[at : at + length])
        at += length
    return sections


def _rebuild(remote: RemoteException) -> tuple[BaseException, list[BaseException]]:
    """The exception, and the chain of those that it was raised from."""
    original: BaseException | None = None
    why: BaseException | None = None
    causes: list[BaseException] = []
    if remote.pickled:
        if _REBUILDING.encode() in remote.pickled:
            importing(_REBUILDING)  # unpickling does
        loaded, why = _try_to_load(remote.pickled)
        if type(loaded) is list:  # not `isinstance`, which asks an exception for its `__class__`
            causes = _load_causes(loaded[1:])
            loaded = loaded[0]
        original = loaded if isinstance(loaded, BaseException) else None
    if remote.stage == "run" or not (original is None or isinstance(original, Exception)):
        if original is not None:
            return original, causes
        reason = "cannot be pickled" if why is None else f"cannot be rebuilt: {brief_or_raise(why)}"
        return RemoteError(remote.type_name, remote.message, remote.traceback, reason), causes
    what = f"{remote.type_name}: {remote.message}"
    if remote.stage == "dump":
        return SerializationError(f"the task returned something that cannot be pickled: {what}"), causes
    return DeserializationError(
        f"the task cannot be loaded in the worker: {what}. Its function must be importable there (same sys.path as "
        "when the executor was made), or be a function of __main__ or a notebook; its arguments must unpickle."
    ), causes


def _load_causes(pickles: list[bytes]) -> list[BaseException]:
    """Up to the first that cannot be rebuilt."""
    causes: list[BaseException] = []
    for pickled in pickles:
        cause, _ = _try_to_load(pickled)
        if not isinstance(cause, BaseException):
            break
        causes.append(cause)
    return causes


def load_outcome(kind: str, data: Any) -> tuple[Any, BaseException | None]:
    """The value or the exception, for an outcome of the Rust side. `kind` is not "cancelled"."""
    if kind == "failed":
        cause = data.pop("cause", None)
        failure = from_failure(data)
        if cause is not None:
            failure.__cause__ = CancelledError() if cause[0] == "cancelled" else load_outcome(*cause)[1]
        return None, failure
    if kind == "error":
        return None, load_exception(data)
    value, exc = _try_to_load(data)
    if exc is not None and issubclass(type(exc), Exception):
        error = DeserializationError(f"the task's result cannot be unpickled here: {brief_or_raise(exc)}")
        error.__cause__ = exc
        return None, error
    return value, exc


def raised_by(kind: str, data: Any) -> str:
    """The name of the class of what `load_outcome` makes of a failure, without unpickling anything."""
    if kind == "failed":
        return FAILURES[data["kind"]].__name__
    remote = RemoteException(data)
    instead = {"load": DeserializationError, "dump": SerializationError}.get(remote.stage)
    return remote.type_name.rpartition(".")[2] if instead is None else instead.__name__


def _try_to_load(data: bytes | tuple[bytes, list[Any]]) -> tuple[Any, BaseException | None]:
    """The value, or what loading it raised, whatever that is: unpickling runs the user's code.

    What a signal handler raises meanwhile (Ctrl-C, say) is for the caller, not for the future, which can be asked
    again.
    """
    try:
        return _load_once(data), None
    except BaseException as exc:
        if threading.current_thread() is not threading.main_thread():
            return None, exc  # signals are the main thread's
        if issubclass(type(exc), KeyboardInterrupt):
            raise
        return None, own_failure(lambda: _load_once(data), exc, through=(KeyboardInterrupt,))


def brief_or_raise(exc: BaseException) -> str:
    """As `brief`. What a signal handler raises is raised: the future can be asked again."""
    hits: list[BaseException] = []
    text = brief(exc, hits)
    if hits:
        raise hits.pop()
    return text


def _load_once(data: bytes | tuple[bytes, list[Any]]) -> Any:
    return loads(data) if isinstance(data, bytes) else loads(*data)


# --- classes that travel by value ------------------------------------------------------------------------------------

_SETSTATE = b"_class_setstate"
"""Stands in each pickle that has a class by value in it."""

_SHORT_BYTES = 1024
"""Up to here Python itself finds a name in no time, and a call would take longer."""


def loads(data: bytes, buffers: list[Any] | None = None) -> Any:
    """Unpickle something that a worker made.

    A class of this process that went to the worker by value comes back as itself (cloudpickle keeps track of it), but
    cloudpickle would then overwrite its attributes with the worker's copies. That is left out here.
    """
    if mentions(data, _SETSTATE) if len(data) > _SHORT_BYTES else _SETSTATE in data:
        return _ClassKeepingUnpickler(io.BytesIO(data), buffers=buffers).load()
    return _pickle_loads(data, buffers=buffers)


class _ClassKeepingUnpickler(Unpickler):
    def __init__(self, file: io.BytesIO, buffers: list[Any] | None = None) -> None:
        super().__init__(file, buffers=buffers)
        self._ours: set[int] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if name == "_class_setstate" and module.startswith("cloudpickle"):
            return lambda cls, state: self._set_state(found, cls, state)
        at = _id_at(module, name)
        return found if at is None else lambda *args: self._skeleton(found, args, at)

    def _skeleton(self, make: Callable[..., type], args: tuple[Any, ...], tracker_id_at: int) -> type:
        from ._classes import known_class

        known = known_class(args[tracker_id_at])
        if known is None:
            made = make(*args)
            _unfinished.add(made)
            return made
        if known not in _unfinished:
            self._ours.add(id(known))
        return known

    def _set_state(self, set_state: Callable[[type, Any], type], cls: type, state: Any) -> type:
        if id(cls) in self._ours:
            return cls
        set_state(cls, state)
        _unfinished.discard(cls)
        return cls


def _id_at(module: str, name: str) -> int | None:
    """Where the id of a class stands among the arguments of this function, if it is one that makes classes."""
    if module == "disttask._classes":
        from ._classes import NAMES

        name = NAMES.get(name, "")
    elif not module.startswith("cloudpickle"):
        return None
    from ._classes import TRACKER_ID_AT

    return TRACKER_ID_AT.get(name)


_unfinished: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes whose state has not arrived: loading it failed or was interrupted, or goes on in another thread."""


def values_of_chunk(
    errors: list[tuple[int, bytes]], values: list[Any], pickles: list[tuple[int, bytes]]
) -> Iterator[list[Any]]:
    """The values up to the first error, which is then raised. Those that are not plain have a pickle each."""
    first = min(errors, default=None)
    for index, pickle in pickles:
        if first is None or index < first[0]:
            value, exc = load_outcome("value", pickle)
            if exc is not None:
                del values[index:]
                yield values
                raise exc
            values[index] = value
            del value  # it is the caller's
    if first is None:
        yield values
    else:
        del values[first[0] :]
        yield values
        raise load_exception(first[1])


class _LettingGo(map):  # type: ignore[type-arg]
    __slots__ = ("left",)
    left: itertools.repeat[int]

    def __length_hint__(self) -> int:
        return operator.length_hint(self.left)


def letting_go(values: list[Any]) -> Iterator[Any]:
    """Each of them once, and then no reference to it is left here: what is not plain may be large."""
    values.reverse()
    left = itertools.repeat(-1, len(values))
    portion = _LettingGo(values.pop, left)
    portion.left = left
    return portion
