"""Callables, values and exceptions to bytes, here and in workers. `_loading` is the way back.

Plain pickle comes first: it is fast, and an importable function goes by reference. Where it fails, or where the pickle
mentions ``__main__`` (which is another module in a worker), cloudpickle sends definitions by value.

What a worker that runs importable functions does not need is imported where it is needed: a worker's start and its
memory are mostly imports.
"""

from __future__ import annotations

import struct
import sys
from _pickle import dumps as _pickle_dumps  # `pickle.dumps` itself, without what the module `pickle` imports

from ._native import mentions, raised_by_handler
from ._references import methods_by_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, TypeVar

    _T = TypeVar("_T")

PROTOCOL = 5
"""The newest protocol that every supported Python writes."""

TEXT_LIMIT_CHARS = 64 * 1024
"""A longer traceback or message is cut in the middle: both ends matter, and a recursion must not cost megabytes."""

LARGE_BYTES = 10_000_000
"""To pickle, send and unpickle so much takes ten milliseconds and more. Dask and Ray warn from about there on, too."""

MAX_CAUSES = 16
"""Exceptions that travel with one as its causes. Chains are short; one in a loop may grow without end."""

_SIMPLE = (str, bytes, int, float, bool, type(None))

_HEAP_TYPE = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: the class is of Python code, or of an extension module."""

_INSTEAD = {
    "generator": " (return a list of what it yields)",
    "async_generator": " (return a list of what it yields)",
    "coroutine": " (run it in the task, with asyncio.run)",
    "_io.TextIOWrapper": " (return its path, or what is in it)",
    "_io.BufferedReader": " (return its path, or what is in it)",
}
"""What to do about results that never leave their process."""

_STR_RAISES = "(its str() raises)"
"""In place of an exception's message."""

_MAIN = b"_main__"
"""In ``__main__``, and in ``__mp_main__``: see `_references.MAINS`."""

_CONNECTION = b"multiprocessing.connection"
"""What pickle would make of a connection names a descriptor that is another one elsewhere."""


_TRIES = 3
"""So often is tried what signal handlers hit, or may have. As in `bindings/inline.rs`."""

_late: dict[str, None] = {}
"""Modules that are imported here and there where they are needed, as far as that was begun."""


def importing(name: str) -> None:
    """Goes before an import in a function that any thread may call.

    A child that is forked while another thread imports the module would wait for the end of that for ever, once it
    needs the module itself. So forks wait: see `finish_imports`.
    """
    _late[name] = None


def finish_imports() -> None:
    """Before a fork: from here on no thread is in the midst of such an import."""
    is_early = "logging" not in sys.modules
    for name in list(_late):
        __import__(name)
    if is_early and (logging := sys.modules.get("logging")):
        # Its own step before a fork was added too late for this one. The one after it will release what that takes.
        logging._lock.acquire()


class Pickled:
    """Bytes, and whether they hold code by value (which another Python version cannot load)."""

    __slots__ = ("by_value", "data")

    def __init__(self, data: bytes, by_value: bool) -> None:
        self.data = data
        self.by_value = by_value


def dumps(obj: object, hits: list[BaseException] | None = None) -> Pickled:
    """Pickle, by reference where that will do.

    What a signal handler raises meanwhile is added to `hits`, or else raised.
    """
    data = _by_reference(obj, hits)
    if data is not None and not (mentions(data, _MAIN) or mentions(data, _CONNECTION)):
        return Pickled(data, by_value=False)
    return Pickled(dumps_by_value(obj), by_value=True)


def dumps_by_value(obj: object, ahead: type | None = None) -> bytes:
    """What `dumps` does in the end. If this fails, it does, too. `ahead` comes before the pickler's class."""
    if "multiprocessing.reduction" in sys.modules:  # it knows how sockets and connections travel
        from ._sharing import dumps_with_reducers

        return dumps_with_reducers(obj, ahead)
    importing("disttask._by_value")
    from . import _by_value  # cloudpickle takes 50 ms: only where it is needed

    kind = _by_value.Pickler
    return _by_value.dumps(obj, kind if ahead is None else type("Pickler", (ahead, kind), {}))


def _by_reference(obj: object, hits: list[BaseException] | None) -> bytes | None:
    """The plain pickle. ``None``: cloudpickle may know how; if not, its error is the better one."""
    try:
        return methods_by_name(obj, _pickle_dumps(obj, PROTOCOL))
    except Exception as exc:
        if exc.__traceback__ is None or exc.__traceback__.tb_next is None:
            return None  # of the pickler's own, and not of any Python code that it has called
        data, found = told_apart(lambda: methods_by_name(obj, _pickle_dumps(obj, PROTOCOL)), exc)[::2]
    if found and hits is None:
        raise found.pop()
    if hits is not None:
        hits += found
    return data


def task_name(func: object) -> str:
    """What to call the function in errors and in `status()`."""
    name = getattr(func, "__qualname__", None)
    if name is None and hasattr(func, "func"):  # functools.partial
        return task_name(func.func)
    return name if isinstance(name, str) else type(func).__qualname__


# --- exceptions -----------------------------------------------------------------------------------------------------


def dump_exception(stage: str, exc: BaseException, note: str = "", hits: list[BaseException] | None = None) -> bytes:
    """Describe an exception. Never raises, whatever the exception's own methods, properties and metaclass do.

    Four texts, so that something always arrives, what `add_note` has noted, if anything, and its pickle: as sections,
    which `src/pool/answer.rs` knows, too. What signal handlers raise meanwhile is added to `hits`.
    """
    notes = _take_notes(exc)

    def pickled() -> bytes:
        sent = exc
        if issubclass(type(exc), BaseExceptionGroup):
            importing("disttask._groups")
            from ._groups import sendable

            sent = sendable(exc, hits)
        return _pickle_exception(sent, _dump_causes(exc, hits), hits)

    def traceback() -> str:
        return _traceback(exc, _own(exc, "__traceback__"))

    name = _tried(lambda: type_name(type(exc)), "an exception", hits)
    message = _tried(lambda: _cut(_plain(str(exc))), _STR_RAISES, hits)
    text = _tried(traceback, f"{name}: {message}\n(its traceback cannot be formatted)", hits)
    pickle = _tried(pickled, b"", hits)
    texts = (stage, name, f"{note}{message}", text, *notes)
    return _join_sections([*(text.encode("utf-8", "backslashreplace") for text in texts), pickle])


def _traceback(exc: BaseException, frames: TracebackType | None) -> str:
    importing("traceback")
    from traceback import format_exception

    return _cut(_plain("".join(format_exception(type(exc), exc, frames))))


def described(exc: BaseException) -> str:
    """Its traceback below the frame that has caught it; at the least its class and message. Never raises."""
    frames = _own(exc, "__traceback__")
    try:
        return _traceback(exc, frames and frames.tb_next).rstrip()
    except BaseException:
        return brief(exc)


def _tried(make: Callable[[], _T], otherwise: _T, hits: list[BaseException] | None) -> _T:
    """What the user's code makes, which may raise whatever it likes, even SystemExit."""
    try:
        return make()
    except BaseException as exc:
        return _settled(told_apart(make, exc), otherwise, hits)


def _settled(
    told: tuple[_T | None, BaseException | None, list[BaseException]], otherwise: _T, hits: list[BaseException] | None
) -> _T:
    # Its own frame: in that of `_tried`, which the first failure's traceback holds, an exception would be in a cycle.
    made, failure, found = told
    if hits is not None:
        hits += found
    return otherwise if failure is not None else made  # type: ignore[return-value]


def told_apart(
    make: Callable[[], _T], first: BaseException, through: tuple[type[BaseException], ...] = ()
) -> tuple[_T | None, BaseException | None, list[BaseException]]:
    """`make` has raised `first`: what it makes after all, or else its failure; and what signal handlers have raised.

    A traceback shows the handler, and what is `make`'s own is not tried again: it may fail in another way then (a
    module whose import fails halfway says only once what is wrong). Where there is a handler that leaves no trace, what
    fails once and not twice was hit by it. If it fails in two ways, one is likely to be that, and the third time tells
    which. `bindings/inline.rs` does the same. What is of a class in `through` is raised.
    """
    failures = [(first, raised_by_handler(first))]
    try:
        while not _is_settled(failures):
            try:
                return make(), None, [exc for exc, _ in failures]
            except BaseException as exc:
                if issubclass(type(exc), through):
                    raise
                failures.append((exc, raised_by_handler(exc)))
        return None, *_sorted_out(failures)
    finally:
        failures.clear()  # their tracebacks hold this frame


def _is_settled(failures: list[tuple[BaseException, bool | None]]) -> bool:
    exc, by_handler = failures[-1]
    again = [was for was, unclear in failures[:-1] if unclear is None and type(was) is type(exc)]
    return by_handler is False or (by_handler is None and bool(again)) or len(failures) == _TRIES


def _sorted_out(failures: list[tuple[BaseException, bool | None]]) -> tuple[BaseException, list[BaseException]]:
    """Its own failure, and the hits."""
    last = failures[-1][0]
    hits = [exc for exc, by_handler in failures if by_handler]
    if not hits:
        odd = [exc for exc, _ in failures if type(exc) is not type(last)]
        hits = odd if len(odd) == 1 else []
    own = [exc for exc, _ in failures if not any(exc is hit for hit in hits)]
    return own[-1] if own else last, hits


def own_failure(
    make: Callable[[], object], first: BaseException, through: tuple[type[BaseException], ...] = ()
) -> BaseException | None:
    """As `told_apart`: its failure, which there is, or else what a signal handler has raised is raised."""
    failure, hits = told_apart(make, first, through)[1:]
    try:
        if hits:
            raise hits.pop()
        return failure
    finally:
        del failure  # the traceback of what is raised holds this frame


def brief(exc: BaseException, hits: list[BaseException] | None = None) -> str:
    """Its class and its message, whatever its class does. What signal handlers raise meanwhile is added to `hits`."""
    return f"{class_name(type(exc))}: {_tried(lambda: _cut(_plain(str(exc))), _STR_RAISES, hits)}"


class _Note(str):
    """A note of ours. It travels beside the pickle: a class that lets nobody set attributes could not be rebuilt."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


def add_note(exc: BaseException, note: str) -> None:
    """`exc.add_note`, without the code of its class, which may raise: that of a frozen dataclass does."""
    notes = _own(exc, "__dict__").setdefault("__notes__", [])
    if type(notes) is list:
        notes.append(_Note(note))


def _take_notes(exc: BaseException) -> list[str]:
    """Take our notes off the exception: one text, or none."""
    held = _own(exc, "__dict__")
    notes = held.get("__notes__")
    if type(notes) is not list:
        return []
    ours = [note for note in notes if type(note) is _Note]
    notes[:] = [note for note in notes if type(note) is not _Note]
    if not notes:
        del held["__notes__"]
    return ["\n".join(ours)] if ours else []


def type_name(kind: type) -> str:
    """What a class is called, its module included. Never raises: a metaclass may answer for the class as it likes."""
    name = class_name(kind, "__qualname__")
    try:
        module = class_name(kind, "__module__")
    except (AttributeError, TypeError):
        return name
    return name if module == "builtins" else f"{module}.{name}"


def result_note(result: object) -> str:
    """Goes before the message of an exception that pickling this raised. Never raises."""
    name = type_name(type(result))
    return f"its result is of type {name}{_INSTEAD.get(name, '')}: "


def class_name(kind: type, attribute: str = "__name__") -> str:
    """Of the class itself: not what its metaclass says.

    Raises:
        TypeError: it is no string, which `__module__` need not be.
        AttributeError: it is not there.
    """
    return _plain(type.__dict__[attribute].__get__(kind))


def _own(exc: BaseException, attribute: str) -> Any:
    """What an exception has there: its class may have a property of that name, which is user code."""
    return BaseException.__dict__[attribute].__get__(exc)


def _plain(text: object) -> str:
    """As a string of the class `str`: one of a class of its own may do anything when it is used.

    Raises:
        TypeError: it is no string.
    """
    return "".join((text,))  # type: ignore[arg-type]


def _dump_causes(exc: BaseException, hits: list[BaseException] | None) -> list[bytes]:
    """What it was raised from, and what that was, each pickled by itself: one that cannot be costs no other."""
    found: list[bytes] = []
    seen = {id(exc)}
    cause = _own(exc, "__cause__")
    while cause is not None and id(cause) not in seen and len(found) < MAX_CAUSES:
        seen.add(id(cause))
        if class_name(type(cause)) != "RemoteTraceback":  # of a task's own task: the text has that, too
            if not (pickle := _pickle_exception(cause, (), hits)):
                break
            found.append(pickle)
        cause = _own(cause, "__cause__")
    return found


def _pickle_exception(exc: BaseException, more: Sequence[bytes], hits: list[BaseException] | None) -> bytes:
    """See `_rebuilding.pickled`."""
    make = None if _is_simple(exc) else _tried(_pickle_of_others, None, hits)
    if make is None:  # or the module cannot be imported: there is no descriptor left, say, as the exception may tell
        return _tried(lambda: dumps([exc, *more] if more else exc).data, b"", hits)
    return make(exc, more, hits)


def _is_simple(exc: BaseException) -> bool:
    """One of a builtin class, with nothing but texts and numbers."""
    is_of_python = type.__dict__["__flags__"].__get__(type(exc)) & _HEAP_TYPE
    return not (is_of_python or _own(exc, "__dict__") or [arg for arg in _own(exc, "args") if type(arg) not in _SIMPLE])


def _pickle_of_others() -> Callable[[BaseException, Sequence[bytes], list[BaseException] | None], bytes]:
    importing("disttask._rebuilding")
    from ._rebuilding import pickled

    return pickled


def _cut(text: str) -> str:
    if len(text) <= TEXT_LIMIT_CHARS:
        return text
    half = TEXT_LIMIT_CHARS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _join_sections(sections: list[bytes]) -> bytes:
    return struct.pack(f"<I{len(sections)}Q", len(sections), *map(len, sections)) + b"".join(sections)
