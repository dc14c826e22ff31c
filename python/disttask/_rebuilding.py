"""Exceptions through a pickle, whatever arguments their classes take.

`BaseException.__reduce__` says: call the class with `args`, and those are what reached `Exception.__init__`. A class
that takes other arguments (a status and a body, say) cannot be called with them, or makes another message of them. Such
an exception is rebuilt here as the builtin class would make it that it derives from, without any code of its own, and
has the `args`, attributes and slots that it had. So are exceptions in it, in whatever container.
"""

from __future__ import annotations

import copyreg
from _io import BytesIO

from ._native import mentions, raised_by_handler
from ._pickling import _CONNECTION, _HEAP_TYPE, _MAIN, PROTOCOL, _own, _tried, dumps_by_value
from ._references import _Pickler as _ByReference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_Slot = type(BaseExceptionGroup.__dict__["message"])
"""`types.MemberDescriptorType`, as `__slots__` make them, and builtin classes have them."""

_POINTER_BYTES = 8
"""What a slot takes in an object, and the list of weak references to it."""


def pickled(exc: BaseException, more: Sequence[bytes], hits: list[BaseException] | None) -> bytes:
    """Its pickle, or that of a list with more. Nothing: it has none.

    What signal handlers raise meanwhile is added to `hits`.
    """
    sent = [exc, *more] if more else exc
    survey = _Survey()
    data = _tried(lambda: _dump(sent, survey), b"", hits)
    if not data and _tried(lambda: survey.leave_out(hits), False, hits):
        data = _tried(lambda: _dump(sent, survey), b"", hits)
    return data


def _dump(sent: object, survey: _Survey) -> bytes:
    try:
        with BytesIO() as file:
            pickler = _Plain(file, PROTOCOL)
            pickler.survey = survey
            pickler.dump(sent)
            data = file.getvalue()
    except Exception as failure:
        if raised_by_handler(failure):
            raise
        data = b""  # cloudpickle may know how; if not, its error is the better one
    if data and not (mentions(data, _MAIN) or mentions(data, _CONNECTION)):
        return data
    return dumps_by_value(sent, type("_Surveyed", (_Surveyed,), {"survey": survey}))


class _Surveyed:
    """Comes before a pickler's class."""

    survey: _Survey

    def reducer_override(self, obj: Any) -> Any:
        if issubclass(type(obj), BaseException):  # not `isinstance`, which asks it for its `__class__`
            reduced = self.survey.reduced(obj)
            if reduced is not None:
                return reduced
        return self._otherwise(obj)

    def _otherwise(self, obj: Any) -> Any:
        override = getattr(super(), "reducer_override", None)
        return NotImplemented if override is None else override(obj)


class _Plain(_Surveyed, _ByReference):
    pass


class _Survey:
    """The exceptions that one pickle has, and what is left out of them."""

    def __init__(self) -> None:
        self._met: dict[int, BaseException] = {}
        self._left_out: dict[int, list[str]] = {}
        self._passes_over = False

    def reduced(self, exc: BaseException) -> tuple[Any, ...] | None:
        """What `__reduce__` should say. ``None``: what it says."""
        self._met.setdefault(id(exc), exc)
        if self._passes_over:
            return int, ()
        return _reduced(exc, self._left_out.get(id(exc), []))

    def leave_out(self, hits: list[BaseException] | None) -> bool:
        """Find attributes that cannot be pickled, in all that were met. Returns whether there are any.

        Exceptions in them are passed over, and looked at by themselves.
        """
        self._passes_over, seen = True, 0
        while seen < len(self._met):
            exc = list(self._met.values())[seen]
            seen += 1
            if _is_ours_to_send(type(exc)):
                held = [*_own(exc, "__dict__").items(), *((name, value) for _, name, value in _in_slots(exc))]
                names = [name for name, value in held if not self._can_be_sent(value, hits)]
                if names:
                    self._left_out[id(exc)] = names
        self._passes_over = False
        return bool(self._left_out)

    def _can_be_sent(self, value: object, hits: list[BaseException] | None) -> bool:
        return bool(_tried(lambda: _dump(value, self), b"", hits))


def _reduced(exc: BaseException, left_out: list[str]) -> tuple[Any, ...] | None:
    cls = type(exc)
    if not _is_ours_to_send(cls):
        return None
    slots = _in_slots(exc)
    is_plain = _is_builtin(cls, "__init__") and _is_builtin(cls, "__new__")
    if (is_plain and not slots and not left_out) or not _is_of_python(cls):
        return None
    made_of, *rest = _builtin(cls, "__reduce__").__get__(exc)()[1:]
    args = _own(exc, "args")
    if issubclass(cls, BaseExceptionGroup):
        made_of = _of_group(exc, "message"), list(_of_group(exc, "exceptions"))
    state = dict(rest[0]) if rest and rest[0] else {}
    if state.get("args") is args:  # of an AttributeError, since Python 3.12
        del state["args"]
    for name in left_out:
        state.pop(name, None)
    if left_out:
        notes = state.get("__notes__", ())
        kept = [note for note in notes if issubclass(type(note), str)] if type(notes) in (list, tuple) else []
        state["__notes__"] = [
            *kept,
            f"disttask: left in the worker, as they cannot be pickled: {', '.join(left_out)}",
        ]
    found = (state, [slot for slot in slots if slot[1] not in left_out])
    return rebuilt, (cls, made_of, args), found if any(found) else None, None, None, give_state


def _is_ours_to_send(cls: type) -> bool:
    """Whether nobody has said how else such an exception is pickled."""
    return cls not in copyreg.dispatch_table and _is_builtin(cls, "__reduce__") and _is_builtin(cls, "__reduce_ex__")


# --- where it is loaded ---


def rebuilt(cls: type[BaseException], made_of: tuple[Any, ...], args: tuple[Any, ...]) -> BaseException:
    """Without attributes: these follow, from the pickle."""
    try:
        base = _builtin_base(cls)
        exc: BaseException = base.__new__(cls, *made_of)
        base.__init__(exc, *made_of)
    except Exception as refusal:  # it was made in a way of its own
        if raised_by_handler(refusal):
            raise
        exc = cls(*made_of)
    BaseException.__dict__["args"].__set__(exc, args)
    return exc


def give_state(exc: BaseException, found: tuple[dict[str, Any], list[tuple[int, str, Any]]]) -> None:
    """Attributes as its class sets them, which may refuse (a frozen dataclass does), and slots."""
    state, slots = found
    try:
        if state:
            exc.__setstate__(state)
    except Exception as refusal:
        if raised_by_handler(refusal):
            raise
        for name, value in state.items():
            builtin = [held for is_builtin, held in _definitions(type(exc), name) if is_builtin and type(held) is _Slot]
            if builtin:
                builtin[0].__set__(exc, value)
            else:
                _own(exc, "__dict__")[name] = value
    bases = _bases(type(exc))
    for at, name, value in slots:
        type.__dict__["__dict__"].__get__(bases[at])[name].__set__(exc, value)


# --- what a class has, without asking its metaclass -------------------------------------------------------------------


def _bases(cls: type) -> tuple[type, ...]:
    return type.__dict__["__mro__"].__get__(cls)  # type: ignore[no-any-return]


def _is_heap_type(cls: type) -> bool:
    return bool(type.__dict__["__flags__"].__get__(cls) & _HEAP_TYPE)


def _definitions(cls: type, name: str) -> list[tuple[bool, Any]]:
    """Along its bases: whether it is a builtin's, and the attribute.

    (No generator, here and above: what a signal handler raises while one is closed would be lost.)
    """
    found = []
    for base in _bases(cls):
        held = type.__dict__["__dict__"].__get__(base)
        if name in held:
            found.append((not _is_heap_type(base), held[name]))
    return found


def _is_builtin(cls: type, name: str) -> bool:
    return _definitions(cls, name)[0][0]


def _builtin(cls: type, name: str) -> Any:
    """The one of the first builtin class."""
    builtin = [attribute for is_builtin, attribute in _definitions(cls, name) if is_builtin]
    return builtin[0]


def _builtin_base(cls: type) -> Any:
    """The one that has the layout of its objects: with several builtin bases, that need not be the first."""
    while _is_heap_type(cls):
        cls = type.__dict__["__base__"].__get__(cls)
    return cls


def _is_of_python(cls: type) -> bool:
    """Whether objects hold nothing but what the builtin class has, and slots: no class of an extension adds to that."""
    size = type.__dict__["__basicsize__"]
    slots = [slot for base in _bases(cls) if _is_heap_type(base) for slot in _slots_of(base)]
    added = size.__get__(cls) - size.__get__(_builtin_base(cls))
    return bool(added <= _POINTER_BYTES * (len(slots) + 1))


def _slots_of(base: type) -> list[tuple[str, Any]]:
    return [(name, held) for name, held in type.__dict__["__dict__"].__get__(base).items() if type(held) is _Slot]


def _in_slots(exc: BaseException) -> list[tuple[int, str, Any]]:
    """What its classes' `__slots__` hold, which `BaseException.__reduce__` knows nothing of: base, name, value."""
    found = []
    for at, base in enumerate(_bases(type(exc))):
        if _is_heap_type(base):
            for name, slot in _slots_of(base):
                try:
                    found.append((at, name, slot.__get__(exc)))
                except AttributeError:  # nothing
                    continue
    return found


def _of_group(group: BaseException, attribute: str) -> Any:
    """What the group has there, whatever its class has under that name."""
    return BaseExceptionGroup.__dict__[attribute].__get__(group)
