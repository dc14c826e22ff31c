"""Forks, dropped executors and the end of the interpreter."""

from __future__ import annotations

import atexit
import os
import sys
import threading

from . import _native, _notebook
from ._collector import Collector
from ._pickling import finish_imports
from ._rest import unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._rest import LiveMaps

_WORKERS_LEAVE_SECONDS = 6.0
"""Once no work is left, workers have 5 s to leave and are killed then (`STOP_LIMIT` in the scheduler)."""

_PATIENCE_SECONDS = 1.0
"""A longer wait at exit is explained, on a terminal."""

_living: dict[int, tuple[_native.Pool, Collector, LiveMaps]] = {}
"""Pools of this process that may have processes: at exit, their accepted work is waited for."""


def register(pool: _native.Pool, collector: Collector, maps: LiveMaps) -> None:
    """A new pool."""
    for other, its_collector, _ in list(_living.values()):
        if other.wait_gone(0) and its_collector.is_done():
            forget(other)
    _living[pool.id] = (pool, collector, maps)
    collector.outlet.cells = _notebook.watch(pool)
    collector.outlet.start()


def forget(pool: _native.Pool) -> None:
    """This pool has gone: nothing of it is waited for any more, and nothing here keeps its descriptors open."""
    _living.pop(pool.id, None)
    Collector.by_pool.pop(pool.id, None)
    _notebook.forget(pool)
    pool.forget_functions()


def abandon(pool: _native.Pool) -> None:
    """An `Executor` was dropped without `shutdown`: finish what was accepted, then let the workers go."""
    if not pool.is_foreign():
        pool.shutdown("drain")


def give_up(pool: _native.Pool) -> None:
    """Making its `Executor` was cut short: end its processes and threads, whichever there are by now."""
    pool.shutdown("now")
    collector = Collector.by_pool.get(pool.id)
    if pool.wait_gone(_WORKERS_LEAVE_SECONDS) and collector is not None:
        collector.join()
    forget(pool)


def _at_exit() -> None:
    """Wait for accepted work, and all of each `map`, as `ProcessPoolExecutor` does. Ctrl-C cuts it short, at any time.

    Nobody waits for what a notebook's kernel has left to do when it is shut down, and Jupyter would kill it after 5 s.
    """
    mode: _native.ShutdownMode = "now" if _is_interrupted() or _notebook.shell() is not None else "drain"
    try:
        while _living:  # a thread that still runs may make a new pool meanwhile
            pool, collector, maps = next(iter(list(_living.values())))
            if mode == "drain":
                for one in unread(pool, maps):
                    one.close_at_exit()
            pool.shutdown(mode)
            if not pool.wait_gone(_PATIENCE_SECONDS):
                _say_what_is_waited_for(pool)
                pool.wait_gone()
            collector.join()
            forget(pool)
    except KeyboardInterrupt:
        _kill_all()  # and leave with the status that was decided before
    except BaseException:
        _kill_all()
        raise


def _is_interrupted() -> bool:
    """Whether a Ctrl-C that nobody caught ends the program. At a prompt it may be an hour old."""
    last = getattr(sys, "last_type", None)
    return isinstance(last, type) and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")


def _say_what_is_waited_for(pool: _native.Pool) -> None:
    status = pool.status()
    tasks = status["queued"] + status["running"]
    if tasks and sys.stderr is not None and sys.stderr.isatty():
        print(f"disttask: waiting for {tasks} tasks to finish; Ctrl-C kills them", file=sys.stderr)


def _kill_all() -> None:
    pools = list(_living.values())
    for pool, _, _ in pools:
        pool.shutdown("now")
    for pool, collector, _ in pools:
        if pool.wait_gone(_WORKERS_LEAVE_SECONDS):
            collector.join()


def _after_fork_in_child() -> None:
    _native.after_fork_in_child()
    _living.clear()
    for collector in Collector.by_pool.values():
        collector.disown_all()
    Collector.by_pool.clear()
    _notebook.forget_all()


# Before non-daemon threads are joined: one of them may wait for a future. (`atexit` proper comes after that.)
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
# After that: daemon threads in native waits must not come back into an interpreter that goes away.
atexit.register(_native.finalizing)
os.register_at_fork(
    before=_native.before_fork,
    after_in_parent=_native.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
os.register_at_fork(before=finish_imports)  # which runs before what was registered before it
