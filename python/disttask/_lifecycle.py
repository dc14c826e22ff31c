"""Forks, dropped executors and the end of the interpreter."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading

from . import _native, _notebook
from ._collector import Collector
from ._output import descriptor
from ._pickling import finish_imports, importing
from ._rest import unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ._rest import LiveMaps, Rest

_WORKERS_LEAVE_SECONDS = 6.0
"""Once no work is left, workers have 5 s to leave and are killed then (`STOP_LIMIT` in the scheduler)."""

_PATIENCE_SECONDS = 1.0
"""A longer wait at exit is explained, on a terminal."""

_READER_SECONDS = 1.0
"""Who reads our stderr has so long to make room for a line."""

_living: dict[int, tuple[_native.Pool, Collector, LiveMaps]] = {}
"""Pools of this process that may have processes: at exit, their accepted work is waited for."""

_cut_short_by: list[KeyboardInterrupt] = []
"""The Ctrl-C that has ended that wait."""


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

    During the wait, it says so and what was lost, and the interpreter ends as after any Ctrl-C that nobody catches.

    Nobody waits for what a notebook's kernel has left to do when it is shut down, and Jupyter would kill it after 5 s.
    """
    mode: _native.ShutdownMode = "drain"
    failed: list[BaseException] = []
    try:
        _native.ending()
        if _is_interrupted() or _notebook.shell() is not None:
            mode = "now"
        while _living:  # a thread that still runs may make a new pool meanwhile
            pool, collector, maps = next(iter(list(_living.values())))
            if mode == "drain":
                _read_all(unread(pool, maps), failed)
            pool.shutdown(mode)
            if not pool.wait_gone(_PATIENCE_SECONDS):
                _say_what_is_waited_for(pool)
                pool.wait_gone()
            collector.join()
            forget(pool)
    except KeyboardInterrupt as interrupt:
        _cut_short_by.append(interrupt)
        # Else it was said before, or nobody has waited for work.
        lost = _what_is_lost() if mode == "drain" else ""
        try:
            _kill_all()
        finally:  # only then, as it may take a moment; and who presses Ctrl-C again has seen enough
            with contextlib.suppress(KeyboardInterrupt):
                _say(lost)
    except BaseException:
        _kill_all()
        raise
    if failed:
        raise failed[0]


def _read_all(maps: list[Rest], failed: list[BaseException]) -> None:
    """Have the rest of their calls made. What else is waited for goes on, whatever an input raises, SystemExit, say."""
    for one in maps:
        try:
            one.close_at_exit()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            failed.append(exc)


def _is_interrupted() -> bool:
    """Whether a Ctrl-C that nobody caught ends the program. At a prompt it may be an hour old."""
    last = getattr(sys, "last_type", None)
    return isinstance(last, type) and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")


def _say_what_is_waited_for(pool: _native.Pool) -> None:
    status = pool.status()
    tasks = status["queued"] + status["running"]
    with contextlib.suppress(Exception):  # it is closed, or an object of the program's that has no `isatty`
        if tasks and sys.stderr.isatty():
            _say(f"disttask: waiting for {tasks} tasks to finish; Ctrl-C kills them\n")


def _say(text: str) -> None:
    """On stderr, which may be anything by now, and must not cost any work."""
    with contextlib.suppress(Exception):
        if text and _is_read(sys.stderr):
            sys.stderr.write(text)


def _is_read(stream: TextIO) -> bool:
    """Whether a line can be written: into a full pipe whose reader has stopped that would take for ever."""
    fd = descriptor(stream)
    if fd is None:
        return True
    importing("select")
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(_READER_SECONDS * 1000))


def _what_is_lost() -> str:
    queued = running = 0
    for pool, _, _ in list(_living.values()):
        status = pool.status()
        queued, running = queued + status["queued"], running + status["running"]
    if not queued + running:  # all of it had ended, and only the workers not, or a map's input was being read
        return "disttask: interrupted at exit (KeyboardInterrupt)\n"
    tasks = "1 task was" if queued + running == 1 else f"{queued + running} tasks were"
    lost = f"{tasks} not finished ({running} of them running, now killed)"
    return f"disttask: interrupted at exit (KeyboardInterrupt): {lost}\n"


def _finalizing() -> None:
    """The last that is done. If the wait was cut short, have the interpreter end as after a Ctrl-C that nobody catches.

    That is, kill itself by SIGINT once it is finalized and all is flushed, so that a shell sees it. It does so if a
    `KeyboardInterrupt` has left the code that it was given last, be that the program or the text of an `exec`; there is
    no other way to tell it from Python. A status that the program has given to `sys.exit` stands.
    """
    _native.finalizing()
    if _cut_short_by:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


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
try:
    threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
except RuntimeError as exc:
    raise RuntimeError(
        "no Executor can be made any more: the main thread has ended, and nobody would wait for its tasks. Make one "
        "before that, or have the main thread join this one"
    ) from exc
# After that: daemon threads in native waits must not come back into an interpreter that goes away.
atexit.register(_finalizing)
os.register_at_fork(
    before=_native.before_fork,
    after_in_parent=_native.after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
os.register_at_fork(before=finish_imports)  # which runs before what was registered before it
