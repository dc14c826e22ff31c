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
    from collections.abc import Sequence
    from typing import Any

_HEAP_TYPE = 1 << 9
"""`Py_TPFLAGS_HEAPTYPE`: the class is of Python code, or of an extension module."""


class Sent:
    """Stands for an exception in a pickle. What is loaded from that is the exception.

    Args:
        left_out: the names of attributes that are not sent. A note says so.
        members: of a group, what stands for each of its exceptions.
    """

    __slots__ = ("exc", "left_out", "members")

    def __init__(
        self, exc: BaseException, left_out: Sequence[str] = (), members: list[BaseException | Sent] | None = None
    ) -> None:
        self.exc, self.left_out, self.members = exc, left_out, members

    def __reduce__(self) -> tuple[Any, ...]:
        exc, cls = self.exc, type(self.exc)
        made_of, *rest = _inherited(cls, "__reduce__").__get__(exc)()[1:]
        args = _own(exc, "args")
        if self.members is not None:
            made_of, args = (made_of[0], self.members), None
        state = rest[0] if rest else None
        if state and self.left_out:
            state = {name: value for name, value in state.items() if name not in self.left_out}
            note = f"disttask: attributes that cannot be pickled are not here: {', '.join(self.left_out)}"
            state["__notes__"] = [*state.get("__notes__", []), note]
        return rebuilt, (cls, made_of, args), state


def pickled(exc: BaseException, more: Sequence[bytes], hits: list[BaseException] | None) -> bytes:
    """Its pickle, or that of a list with more. Nothing: it has none.

    What signal handlers raise meanwhile is added to `hits`.
    """

    def dump(sent: object) -> bytes:
        return dumps([sent, *more] if more else sent).data

    data = _tried(lambda: dump(_sendable(exc)), b"", hits)
    if not data:
        less = _tried(lambda: _less(exc, hits), None, hits)
        if less is not None:
            data = _tried(lambda: dump(less), b"", hits)
    return data


def _sendable(exc: BaseException) -> BaseException | Sent:
    """What to pickle for it: the exception itself where its class knows how, or needs nothing of this."""
    cls = type(exc)
    if not _is_ours_to_send(cls):
        return exc
    if issubclass(cls, BaseExceptionGroup):
        return Sent(exc, members=[_sendable(member) for member in _members(exc)])
    return exc if _is_builtin(cls, "__init__") and _is_builtin(cls, "__new__") else Sent(exc)


def _less(exc: BaseException, hits: list[BaseException] | None) -> Sent | None:
    """What to pickle for it instead, without attributes that cannot be. ``None``: there are none."""
    cls = type(exc)
    if not _is_ours_to_send(cls):
        return None
    state = _own(exc, "__dict__")
    left_out = [name for name in state if not _can_be_pickled(state[name], hits)]
    if not issubclass(cls, BaseExceptionGroup):
        return Sent(exc, left_out) if left_out else None
    found = [(member, _less(member, hits)) for member in _members(exc)]
    if left_out or [less for _, less in found if less is not None]:
        return Sent(exc, left_out, [_sendable(member) if less is None else less for member, less in found])
    return None


def _can_be_pickled(value: object, hits: list[BaseException] | None) -> bool:
    return bool(_tried(lambda: dumps(value).data, b"", hits))


def _members(group: BaseException) -> tuple[BaseException, ...]:
    return BaseExceptionGroup.__dict__["exceptions"].__get__(group)  # type: ignore[no-any-return]


def _is_ours_to_send(cls: type) -> bool:
    """Whether nobody has said how else such an exception is pickled."""
    return cls not in copyreg.dispatch_table and _is_builtin(cls, "__reduce__") and _is_builtin(cls, "__reduce_ex__")


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
