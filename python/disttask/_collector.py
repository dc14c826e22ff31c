"""The thread that tells of futures that somebody observes: the Python side of a pool's announcements."""

from __future__ import annotations

import logging
import threading

from ._output import Outlet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _native
    from ._future import Future

_logger = logging.getLogger("disttask")


class Collector:
    """Delivers the resolutions of one pool's observed futures, on a thread that starts with the first of them."""

    by_pool: dict[int, Collector] = {}  # noqa: RUF012

    def __init__(self, pool: _native.Pool) -> None:
        self._pool = pool
        self._futures: dict[int, Future[Any]] = {}
        self._thread: threading.Thread | None = None
        """The one that delivers what is announced."""
        self._threads: list[threading.Thread] = []
        """All that deliver; some may not have been started."""
        self.outlet = Outlet(pool)
        Collector.by_pool[pool.id] = self

    def adopt(self, future: Future[Any]) -> None:
        """Keep an observed future until its resolution is delivered.

        No lock is taken: a signal handler may come here in the middle of itself. The worst that a race does is a
        second thread, which shares the work.

        Raises:
            RuntimeError: there can be no more threads just now. The next future that is observed tries again.
        """
        if self._thread is None:
            self._thread = self._begin(self._run)
        self._futures[future._seq] = future

    def disown(self, future: Future[Any]) -> None:
        """The future was resolved before it was observed: nothing will be announced."""
        self._futures.pop(future._seq, None)

    def disown_all(self) -> None:
        """In a forked child: nobody will deliver, and another thread may hold a condition. Touching one raises."""
        for future in list(self._futures.values()):
            future.__dict__.pop("_condition", None)
        self._futures.clear()

    def deliver_now(self, future: Future[Any]) -> None:
        """Deliver on this thread, unless the collector's own has come first.

        Ctrl-C is this thread's, and goes on; whom it kept from hearing of the future is told by another thread.
        """
        try:
            if self._futures.pop(future._seq, None) is not None:
                future._announce()
        except KeyboardInterrupt:
            try:
                self._begin(self._deliver, future)
            except RuntimeError:  # no more threads
                self._deliver(future)
            raise
        except BaseException:
            _logger.exception("disttask: delivering %r failed", future)

    def join(self) -> None:
        """Wait until everything is delivered; the pool must have gone. Harmless on the collector's own thread."""
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join()
        self.outlet.join()

    def is_done(self) -> bool:
        """Whether nothing is left to be delivered; the pool must have gone."""
        return self.outlet.is_done() and not any(thread.is_alive() for thread in self._threads)

    def _begin(self, deliver: Callable[..., None], *args: Any) -> threading.Thread:
        """Start a thread. Noted before it runs: it is waited for, even if Ctrl-C comes while it is started."""
        thread = threading.Thread(target=deliver, args=args, name="disttask-collector", daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.remove(thread)
            raise
        return thread

    def _run(self) -> None:
        while (batch := self._pool.collect()) is not None:
            for seq in batch:
                self._deliver(self._futures.pop(seq, None))

    @staticmethod
    def _deliver(future: Future[Any] | None) -> None:
        if future is None:
            return
        try:
            future._announce()
        except BaseException:  # the other futures must be delivered all the same
            _logger.exception("disttask: delivering %r failed", future)
