"""Jupyter: which cell a task belongs to, so that its output appears there and an interrupt of the cell stops it.

Nothing is imported and nothing is done at `submit`. A pool's tasks are numbered in order of submission, so it is enough
to note, whenever a cell begins, how many there have been: a task belongs to the cell that was running, or that had run
last, when it was submitted.
"""

from __future__ import annotations

import bisect
import contextlib
import operator
import sys
from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from . import _native

    Header: TypeAlias = dict[str, Any]

_REMEMBERED_CELLS = 1000
"""Cells of which a pool remembers the tasks. Those of earlier ones count as the oldest one's."""

_first_task = operator.itemgetter(0)

_watched: dict[int, Cells] = {}
"""By the pool's number: whose tasks belong to cells."""

_hooked: list[Any] = []
"""The shell that tells of its cells, once there is a pool."""

_running: list[Any] = []
"""The `asyncio.Task` of the cell that runs, where it has one."""


class Cells:
    """Which tasks of a pool belong to which cell. Read by other threads, so it is never changed in place."""

    def __init__(self, pool: _native.Pool, header: Header) -> None:
        self._pool = pool
        self._cells: tuple[tuple[int, Header], ...] = ((1, header),)

    def begin(self, header: Header) -> None:
        """From here on, tasks belong to this cell."""
        cells = self._cells
        if cells[-1][1].get("msg_id") == header.get("msg_id"):
            return  # a cell that runs another one, as magics do
        first = self._pool.submitted + 1
        if cells[-1][0] == first:
            cells = cells[:-1]  # nothing was submitted there
        self._cells = (*cells[-_REMEMBERED_CELLS + 1 :], (first, header))

    def header(self, task: int | None) -> Header:
        """The message that ran the cell of a task; ``None``: of the last cell."""
        cells = self._cells
        at = len(cells) if task is None else bisect.bisect_right(cells, task, key=_first_task)
        return cells[max(at - 1, 0)][1]

    def stop(self) -> None:
        """Cancel what belongs to the last cell and waits, and kill what runs."""
        self._pool.stop_from(self._cells[-1][0])


def shell() -> Any:
    """The shell of the IPython kernel that this process is; ``None``: it is none."""
    if sys.modules.get("ipykernel") is None:
        return None
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    found = None if get_ipython is None else get_ipython()
    return found if hasattr(found, "kernel") else None


def watch(pool: _native.Pool) -> Cells | None:
    """Note which of this pool's tasks belong to which cell; ``None``: there are no cells here."""
    found = shell()
    if found is None:
        return None
    cells = Cells(pool, _header(found))
    _watched[pool.id] = cells
    if not _hooked:
        _hooked.append(found)
        _running[:] = [_current_task()]
        found.events.register("pre_run_cell", _cell_begins)
        found.events.register("post_run_cell", _cell_has_ended)
    return cells


def forget(pool: _native.Pool) -> None:
    """This pool has gone."""
    _watched.pop(pool.id, None)


def forget_all() -> None:
    """In a forked child: these are the parent's."""
    _watched.clear()


def _header(shell: Any) -> Header:
    """Of the message that asked for the cell that runs."""
    header: Header = (shell.kernel.get_parent() or {}).get("header", {})
    return header


def _cell_begins(_info: object) -> None:
    header = _header(_hooked[0])
    _running[:] = [_current_task()]
    for cells in list(_watched.values()):
        cells.begin(header)


def _cell_has_ended(result: Any) -> None:
    """Where an interrupt has ended it, its tasks end with it. One that the cell has caught is its own business."""
    if not _is_interrupted(result):
        return
    for cells in list(_watched.values()):
        with contextlib.suppress(RuntimeError):  # shut down meanwhile
            cells.stop()


def _is_interrupted(result: Any) -> bool:
    if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
        return True
    # A cell that awaits is cancelled instead. Its own task tells that from awaiting something that was cancelled.
    task = _running[0] if _running else None
    return task is not None and task.done() and task.cancelling() > 0


def _current_task() -> Any:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return None


@contextlib.contextmanager
def parent(header: Header) -> Iterator[None]:
    """Meanwhile, what this thread writes to `sys.stdout` and `sys.stderr` appears in the cell of that message."""
    resets = [_redirect(stream, header) for stream in (sys.stdout, sys.stderr)]
    try:
        yield
    finally:
        for reset in resets:
            reset()


def _redirect(stream: Any, header: Header) -> Callable[[], object]:
    """Do that for one stream; how to undo it. Whatever is no stream of the kernel's is left alone."""
    public = getattr(stream, "set_thread_parent", None)  # ipykernel 7.4 and later
    if public is not None:
        token = public({"header": header})
        return lambda: stream.reset_thread_parent(token)
    variable = getattr(stream, "_parent_header", None)  # from 6.29 on
    if isinstance(variable, ContextVar):
        token = variable.set(header)
        return lambda: variable.reset(token)
    return _nothing


def _nothing() -> None:
    """There is nothing to undo."""
