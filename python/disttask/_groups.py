"""Exception groups on their way to the host: one member that cannot be sent is not to cost the others."""

from __future__ import annotations

from _pickle import loads

from ._exceptions import RemoteError
from ._pickling import _STR_RAISES, _cut, _own, _plain, _traceback, _tried, brief, told_apart, type_name
from ._rebuilding import _of_group, pickled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def sendable(exc: BaseException, hits: list[BaseException] | None) -> BaseException:
    """The exception, if it comes through its pickle. Else what stands for it: of a group, its other members stay.

    What signal handlers raise meanwhile is added to `hits`.
    """
    reason = _flaw(exc, hits)
    if not reason:
        return exc
    if issubclass(type(exc), BaseExceptionGroup):  # not `isinstance`, which asks the exception for its `__class__`
        members = [sendable(member, hits) for member in _of_group(exc, "exceptions")]
        group = _derived(exc, members, hits)
        if group is not None:
            return group
    name = _tried(lambda: type_name(type(exc)), "an exception", hits)
    message = _tried(lambda: _cut(_plain(str(exc))), _STR_RAISES, hits)
    text = _tried(lambda: _traceback(exc, _own(exc, "__traceback__")), "", hits)
    return RemoteError(name, message, text, reason)


def _flaw(exc: BaseException, hits: list[BaseException] | None) -> str:
    """Why it cannot be sent, if so."""
    data = pickled(exc, (), hits)
    if not data:
        return "cannot be pickled"
    try:
        loaded, failure = loads(data), None
    except BaseException as first:
        loaded, failure, found = told_apart(lambda: loads(data), first)
        if hits is not None:
            hits += found
    if failure is not None:
        return f"cannot be rebuilt: {brief(failure, hits)}"
    return "" if issubclass(type(loaded), BaseException) else "cannot be rebuilt: its pickle holds something else"


def _derived(
    exc: BaseException, members: Sequence[BaseException], hits: list[BaseException] | None
) -> BaseException | None:
    """A group of these members, as its class makes it; as a plain one, where that cannot be sent."""
    notes = _own(exc, "__dict__").get("__notes__")
    for make in (
        lambda: exc.derive(members),  # type: ignore[attr-defined]
        lambda: BaseExceptionGroup(_of_group(exc, "message"), members),
    ):
        group = _tried(make, None, hits)
        if group is not None and issubclass(type(group), BaseExceptionGroup):
            if type(notes) is list:
                _own(group, "__dict__")["__notes__"] = list(notes)
            if not _flaw(group, hits):
                return group  # type: ignore[no-any-return]
    return None
