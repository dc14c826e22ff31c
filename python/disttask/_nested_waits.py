"""`concurrent.futures.wait` and `as_completed` inside a task: who sleeps there runs what nobody has begun."""

from __future__ import annotations

import threading
import time
import weakref
from concurrent import futures as cf

from . import _handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import _native
    from ._nested import NestedFuture

_MIXED_SECONDS = 0.05
"""A future that is waited for may be one of a thread, of whose end the host tells nobody: it is looked at so often."""


def asked() -> _native.Nest:
    """Through which a task asks the host about the tasks that it has submitted."""
    assert _handshake.nesting is not None, "only in workers"
    return _handshake.nesting[0]


class Waiters(list):  # type: ignore[type-arg]
    """Those of `concurrent.futures.wait` and `as_completed`, which sleep on an event until some future tells it."""

    def __init__(self, future: NestedFuture) -> None:
        super().__init__()
        self._future = weakref.ref(future)

    def append(self, waiter: Any) -> None:
        if not isinstance(waiter.event, _Event):
            waiter.event = _Event()
        waiter.event.futures.append(self._future())
        super().append(waiter)


class _Event(threading.Event):
    """Whoever sleeps on it sees to these futures meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.futures: list[NestedFuture | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            seen = asked().ended()
            for future in list(self.futures):
                if future is None or cf.Future.done(future):
                    self.futures.remove(future)
                    continue
                if deadline is not None and time.monotonic() >= deadline:
                    future._look(claim=False)
                else:
                    future._look(claim=True)
                if self.is_set():
                    return True
            left = _MIXED_SECONDS if deadline is None else min(deadline - time.monotonic(), _MIXED_SECONDS)
            if left <= 0:
                return self.is_set()
            if self.futures:
                asked().wait(seen, left)
            else:
                super().wait(left)
        return True
