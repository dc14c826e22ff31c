"""How fast the input of a `map` is read: what takes its time is not read while results are there to be had."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_AT_ONCE_NANOS = 1_000_000
"""Reading that is done in one go, as for the work of a chunk: nobody gets a result meanwhile."""

_SLOW_NANOS = 1_000
"""An item that takes longer than this is read by code of somebody's, or from a file. A generator that only counts takes
a twentieth of it."""

_STALL_NANOS = 10_000_000
"""Who has waited so long for an item will do so again, however quick the others are: a queue, say."""

_UNKNOWN_ITEMS = 1000
"""Before so many were read it is not known whether it is slow."""

_FIRST_NANOS = 100_000_000
"""Reading that `map` itself may do, before it returns: some work for each worker, where rows come every few ms."""

_PATIENCE = 10
"""A tenth of the time that reading would take is waited for a result that may come before."""

_WEIGHT = 4
"""What was quicker than before counts for a quarter, what was slower for the whole."""

_HELD = frozenset({list, tuple, range, dict, set, frozenset, str, bytes, bytearray})
"""Their items are at hand."""


class Pace:
    """Of one input."""

    __slots__ = ("_items", "_nanos", "_spent", "_stalls")

    def __init__(self) -> None:
        self._nanos = 0.0
        """For one item."""
        self._items = self._spent = 0
        self._stalls = False

    @classmethod
    def of(cls, iterables: Sequence[Iterable[Any]]) -> Pace | None:
        """``None``: the items are at hand."""
        return None if all(type(iterable) in _HELD for iterable in iterables) else cls()

    def at_most(self, count: int, step: int) -> int:
        """So many of these items are to be read at once: a multiple of `step`."""
        if self._nanos * count <= _AT_ONCE_NANOS:
            return count
        return min(max(int(_AT_ONCE_NANOS / self._nanos) // step, 1) * step, count)

    def learn(self, started: int, count: int) -> None:
        """So many were read since then (`time.perf_counter_ns`)."""
        taken = time.perf_counter_ns() - started
        self._spent += taken
        self._items += count
        self._stalls = self._stalls or taken > _STALL_NANOS
        now = taken / (count or 1)
        self._nanos = now if now > self._nanos else self._nanos + (now - self._nanos) / _WEIGHT

    def is_slow(self) -> bool:
        """Whether results go before reading."""
        return self._stalls or self._nanos > _SLOW_NANOS or self._items < _UNKNOWN_ITEMS

    def has_begun(self) -> bool:
        """Whether enough was read for a `map` of which nobody has asked for a result yet."""
        return self._spent > _FIRST_NANOS

    def patience(self) -> float:
        """Seconds to wait for a result before one more item is read."""
        return self._nanos / _PATIENCE / 1e9
