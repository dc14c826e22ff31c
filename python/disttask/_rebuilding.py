"""Exceptions whose classes have an `__init__` of their own, through a pickle.

`BaseException.__reduce__` says: call the class with `args`, and those are what reached `Exception.__init__`. A class
that takes other arguments (a status and a body, say) cannot be called with them, or makes another message of them. Such
an exception is rebuilt without its `__init__` here, and has the `args` and attributes that it had.
"""

from __future__ import annotations

import copyreg

from ._native import raised_by_handler
from ._pickling import _own, _tried, dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

_Slot = type(BaseExceptionGroup.__dict__["message"])
"""`types.MemberDescriptorType`, as `__slots__` make them."""

_HEAP_TYPE = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: the class is of Python code, or of an extension module."""


class Sent:
    """Stands for an exception in a pickle. What is loaded from that is the exception."""

    __slots__ = ("args", "cls", "has_slots", "made_of", "state")

    def __init__(self, exc: BaseException) -> None:
        self.cls = type(exc)
        made_of, *rest = _inherited(self.cls, "__reduce__").__get__(exc)()[1:]
        self.made_of: tuple[Any, ...] = made_of
        self.args: tuple[Any, ...] | None = _own(exc, "args")
        slots = _in_slots(exc)
        self.has_slots = bool(slots)
        self.state: dict[str, Any] = {**(rest[0] if rest and rest[0] else {}), **slots}
        if issubclass(self.cls, BaseExceptionGroup):
            self.made_of, self.args = (_of_group(exc, "message"), _of_group(exc, "exceptions")), None

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt, (self.cls, self.made_of, self.args), self.state or None, None, None, give_state

    def replace(self, swap: Callable[[Any], Any]) -> bool:
        """Put something else in the place of exceptions in it. Returns whether any of them is another then."""
        is_group = issubclass(self.cls, BaseExceptionGroup)
        parts = self.made_of[1] if is_group else self.made_of
        made_of = tuple([swap(part) for part in parts])
        args = None if self.args is None else tuple([swap(part) for part in self.args])
        state = {name: swap(value) for name, value in self.state.items()}
        swapped = (
            _differ(made_of, parts)
            or _differ(args or (), self.args or ())
            or _differ(state.values(), self.state.values())
        )
        self.made_of, self.args, self.state = ((self.made_of[0], list(made_of)) if is_group else made_of), args, state
        return swapped

    def leave_out(self, names: list[str]) -> None:
        for name in names:
            del self.state[name]
        note = f"disttask: attributes that cannot be pickled are not here: {', '.join(names)}"
        notes = self.state.get("__notes__")
        self.state["__notes__"] = [*(notes if type(notes) is list else ()), note]


def pickled(exc: BaseException, more: Sequence[bytes], hits: list[BaseException] | None) -> bytes:
    """Its pickle, or that of a list with more. Nothing: it has none.

    What signal handlers raise meanwhile is added to `hits`.
    """

    def dump(less: bool) -> bytes:
        sent: dict[int, BaseException | Sent] = {}
        first = _sendable(exc, sent, less)
        if less and not _thin_out(sent, hits):
            return b""
        return dumps([first, *more] if more else first).data

    return _tried(lambda: dump(less=False), b"", hits) or _tried(lambda: dump(less=True), b"", hits)


def _sendable(exc: BaseException, sent: dict[int, BaseException | Sent], less: bool) -> BaseException | Sent:
    """What to pickle for it: the exception itself where its class knows how, or needs nothing of this.

    `sent` has those that were met, by `id`: one that is met twice is one in the end, too. `less`: never the exception.
    """
    if id(exc) in sent:
        return sent[id(exc)]
    cls = type(exc)
    if not _is_ours_to_send(cls):
        return exc
    mine = sent[id(exc)] = Sent(exc)

    def swap(part: Any) -> Any:
        return _sendable(part, sent, less) if issubclass(type(part), BaseException) else part

    is_whole = not mine.replace(swap) and not mine.has_slots
    if is_whole and not less and _is_builtin(cls, "__init__") and _is_builtin(cls, "__new__"):
        sent[id(exc)] = exc
    return sent[id(exc)]


def _thin_out(sent: dict[int, BaseException | Sent], hits: list[BaseException] | None) -> bool:
    """Leave out attributes that cannot be pickled. Returns whether there were any."""
    found = False
    for one in reversed(sent.values()):  # the inner ones come last
        if isinstance(one, Sent):
            names = [name for name, value in one.state.items() if not _can_be_pickled(value, hits)]
            if names:
                one.leave_out(names)
                found = True
    return found


def _can_be_pickled(value: object, hits: list[BaseException] | None) -> bool:
    return bool(_tried(lambda: dumps(value).data, b"", hits))


def _differ(some: Iterable[Any], others: Iterable[Any]) -> bool:
    return bool([one for one, other in zip(some, others, strict=True) if one is not other])


def _is_ours_to_send(cls: type) -> bool:
    """Whether nobody has said how else such an exception is pickled."""
    return cls not in copyreg.dispatch_table and _is_builtin(cls, "__reduce__") and _is_builtin(cls, "__reduce_ex__")


# --- where it is loaded ---


def rebuilt(cls: type[BaseException], made_of: tuple[Any, ...], args: tuple[Any, ...] | None) -> BaseException:
    """As the class makes it, if it does. Then the attributes follow, from the pickle."""
    try:
        exc = cls(*made_of)
    except Exception as refusal:
        if raised_by_handler(refusal):
            raise
        exc = _bare(cls, made_of)
    if args is not None:
        BaseException.__dict__["args"].__set__(exc, args)
    return exc


def _bare(cls: type[BaseException], made_of: tuple[Any, ...]) -> BaseException:
    """Without any of its class's own code: as the builtin class that it derives from makes it."""
    exc: BaseException = _inherited(cls, "__new__")(cls, *made_of)
    _inherited(cls, "__init__").__get__(exc)(*made_of)
    return exc


def give_state(exc: BaseException, state: dict[str, Any]) -> None:
    """As its class does it, which may refuse (a frozen dataclass does)."""
    try:
        exc.__setstate__(state)
    except Exception as refusal:
        if raised_by_handler(refusal):
            raise
        _own(exc, "__dict__").update(state)


# --- what a class has, without asking its metaclass -------------------------------------------------------------------


def _definitions(cls: type, name: str) -> list[tuple[bool, Any]]:
    """Along its bases: whether it is a builtin's, and the attribute.

    (No generator, here and above: what a signal handler raises while one is closed would be lost.)
    """
    found = []
    for base in type.__dict__["__mro__"].__get__(cls):
        held = type.__dict__["__dict__"].__get__(base)
        if name in held:
            found.append((not type.__dict__["__flags__"].__get__(base) & _HEAP_TYPE, held[name]))
    return found


def _is_builtin(cls: type, name: str) -> bool:
    return _definitions(cls, name)[0][0]


def _inherited(cls: type, name: str) -> Any:
    """The one of the first builtin class."""
    builtin = [attribute for is_builtin, attribute in _definitions(cls, name) if is_builtin]
    return builtin[0]


def _in_slots(exc: BaseException) -> dict[str, Any]:
    """What its classes' `__slots__` hold, which `BaseException.__reduce__` knows nothing of."""
    found: dict[str, Any] = {}
    for base in type.__dict__["__mro__"].__get__(type(exc)):
        if type.__dict__["__flags__"].__get__(base) & _HEAP_TYPE:
            for name, slot in type.__dict__["__dict__"].__get__(base).items():
                if type(slot) is _Slot:
                    try:
                        found.setdefault(name, slot.__get__(exc))
                    except AttributeError:  # nothing
                        continue
    return found


def _of_group(group: BaseException, attribute: str) -> Any:
    """What the group has there, whatever its class has under that name."""
    return BaseExceptionGroup.__dict__[attribute].__get__(group)
