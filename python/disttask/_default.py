"""The executor behind `disttask.submit`, which starts itself."""

from __future__ import annotations

import os
import sys
import threading

from . import _handshake
from ._checks import seconds, whole
from ._exceptions import DisttaskError
from ._executor import KEEP_BYTES, KEEP_RESULTS, KEEP_SECONDS, Executor
from ._start import checked_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DefaultExecutorError(DisttaskError, RuntimeError):
    """The default executor cannot be started or set up here; the text says what to do."""


class _Default:
    """There is one, made at import, and one more in each forked child."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: Executor | None = None
        self.settings: dict[str, Any] = {}

    def forget(self) -> None:
        """In a forked child: the executor is the parent's, and one of its threads may have held the lock."""
        self.lock = threading.Lock()
        self.executor = None


_default = _Default()
os.register_at_fork(after_in_child=_default.forget)


def configure(
    *,
    max_workers: int | None = None,
    keep_results: int = KEEP_RESULTS,
    keep_bytes: int = KEEP_BYTES,
    keep_seconds: float = KEEP_SECONDS,
) -> None:
    """Set up the executor behind `disttask.submit`: before its first use, or after it broke or was shut down.

    Args:
        max_workers: number of worker processes, as for `Executor`.
        keep_results: how many finished results `get_results` can look back on (100,000).
        keep_bytes: how many bytes their pickles may have (256 MiB).
        keep_seconds: how many seconds they are kept (3600).

    Raises:
        DefaultExecutorError: it is running already.
        ValueError: a number is out of range.
        TypeError: something is not a number.
    """
    for name, value in (("keep_results", keep_results), ("keep_bytes", keep_bytes)):
        whole(name, value, 0, sys.maxsize)
    if not seconds("keep_seconds", keep_seconds) >= 0:
        raise ValueError(f"keep_seconds cannot be negative, as {keep_seconds} is")
    workers = checked_workers(max_workers)
    with _default.lock:
        if _default.executor is not None and _default.executor.status()["accepting"]:
            raise DefaultExecutorError(
                "the default executor is running: call disttask.configure() before its first use"
            )
        _default.executor = None
        _default.settings = {"max_workers": workers, "_keep": (keep_results, keep_bytes, keep_seconds)}


def default_executor() -> Executor:
    """The executor behind `disttask.submit`; started by the first call, and anew in a forked child.

    Raises:
        DefaultExecutorError: called inside a task, where `disttask.submit` joins the pool that runs the task.
    """
    executor = _default.executor
    if executor is not None:
        return executor
    if _handshake.in_worker():
        raise DefaultExecutorError(
            "inside a task there is disttask.submit() and disttask.options(), which go to the task's own pool; the "
            "rest is for the process that has made the pool"
        )
    with _default.lock:
        if _default.executor is None:
            _default.executor = Executor(**_default.settings)
        return _default.executor
