"""Forks, dropped executors and the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from . import _future, _native

if TYPE_CHECKING:
    from ._future import Collector

_WORKERS_LEAVE_SECONDS = 6.0
"""Once no work is left, workers have 5 s to leave and are killed then (`STOP_LIMIT` in the scheduler)."""

_living: dict[int, tuple[_native.Pool, Collector]] = {}
"""Pools of this process that may have processes: at exit, their accepted work is waited for."""


def register(pool: _native.Pool, collector: Collector) -> None:
    """A new pool."""
    for pool_id, (other, _) in list(_living.items()):
        if other.wait_gone(0):
            forget(pool_id)
    _living[pool.id] = (pool, collector)


def forget(pool_id: int) -> None:
    """This pool has gone: nothing is left to wait for, and nothing here shall keep its descriptors open."""
    entry = _living.pop(pool_id, None)
    if entry is not None:
        entry[1].join()


def abandon(pool: _native.Pool) -> None:
    """An `Executor` was dropped without `shutdown`: finish what was accepted, then let the workers go."""
    if not pool.is_foreign():
        pool.shutdown("drain")


def _at_exit() -> None:
    """Wait for accepted work, as `ProcessPoolExecutor` does. Ctrl-C cuts it short."""
    try:
        while _living:  # other threads may still shut pools down, or make new ones
            pools = list(_living.items())
            for _, (pool, _) in pools:
                pool.shutdown("drain")
            for pool_id, (pool, _) in pools:
                pool.wait_gone()
                forget(pool_id)
    except BaseException:
        left = list(_living.values())
        for pool, _ in left:
            pool.shutdown("now")
        for pool, _ in left:
            pool.wait_gone(_WORKERS_LEAVE_SECONDS)
        raise
    finally:
        for pool_id in list(_living):
            forget(pool_id)


def _after_fork_in_child() -> None:
    _native.after_fork_in_child()
    _living.clear()
    _future.after_fork_in_child()


# Before non-daemon threads are joined: one of them may wait for a future. (`atexit` proper comes after that.)
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
# After that: daemon threads in native waits must not come back into an interpreter that goes away.
atexit.register(_native.finalizing)
os.register_at_fork(after_in_child=_after_fork_in_child)
