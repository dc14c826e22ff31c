"""What is done to an executor's workers as a whole: another number of them, fresh ones, none any more."""

from __future__ import annotations

from . import _lifecycle
from ._rest import unread
from ._start import checked_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from . import _native
    from ._collector import Collector
    from ._rest import LiveMaps
    from ._serve import Server
    from ._start import Start


class Workers:
    """`resize`, `restart`, and the ways to stop."""

    _pool: _native.Pool
    _start: Start
    _collector: Collector
    _servers: list[Server]
    _max_workers: int
    _live_maps: LiveMaps

    def resize(self, max_workers: int | None) -> None:
        """Have another number of workers from now on, while work goes on: ``executor.resize(8)``.

        Those that are too many, idle ones first, leave when their task is done; what was waiting there goes to others.
        Returns at once. New workers start with the `sys.path`, environment and warning filters that this process has
        now, and share the processors as `blas_threads` says; those that stay are left as they are.

        Args:
            max_workers: as for `Executor`.

        Raises:
            ValueError: it is out of range.
            RuntimeError: the executor has been shut down, and its workers leave.
            PoolBroken: the pool is broken.
        """
        workers = checked_workers(max_workers)
        self._pool.resize(workers, *self._start.now(workers))
        self._max_workers = workers

    def restart(self, *, wait: bool = False) -> None:
        """Replace each worker when its task is done: ``executor.restart()``. What is submitted later runs in new ones.

        They start afresh: they import modules as these are now, call `initializer`, and have the working directory,
        `sys.path`, environment and warning filters of this process at this moment. No task is lost, and none waits but
        for a process to start.

        Args:
            wait: return when the old ones are gone, however long their tasks take. Ctrl-C ends the wait.

        Raises:
            RuntimeError: the executor has been shut down, and its workers leave.
            PoolBroken: the pool is broken.
        """
        self._pool.restart(*self._start.now(self._max_workers), wait)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more tasks, and stop the workers when the accepted ones are done.

        What a `map` has not read of its input is submitted before, unless that may be endless (see `map`).

        Args:
            wait: return when the workers are gone. Ctrl-C ends the wait.
            cancel_futures: cancel what no worker has begun. Where workers are just starting, each still takes one task,
                as if it had been quicker.
        """
        if self._pool.is_foreign():
            return  # a forked child has nothing to shut down
        try:
            self._close_inputs(cancel_futures)
        finally:  # Ctrl-C, too, leaves it shut down
            self._pool.shutdown("cancel" if cancel_futures else "drain")
        if wait:
            self._pool.wait_gone()
            self._start.let_go()
            self._collector.join()
            for server in list(self._servers):  # up to here they tell of the work that is left
                server.stop()
            _lifecycle.forget(self._pool)

    def _close_inputs(self, cancel: bool) -> None:
        """Have each `map` submit what is left of its input, if that is known to end, or know that it is cancelled."""
        for one in unread(self._pool, self._live_maps):
            one.close_input(cancel)

    def terminate_workers(self) -> None:
        """Stop at once and accept nothing more: send SIGTERM to the workers, after 5 s SIGKILL to those still there.

        What no worker has begun is cancelled; what runs fails with `PoolShutdown`. Does not wait for the workers.
        """
        if not self._pool.is_foreign():
            self._pool.terminate()

    def kill_workers(self) -> None:
        """Stop at once and accept nothing more: kill the workers. Otherwise as `terminate_workers`."""
        if not self._pool.is_foreign():
            self._pool.shutdown("cancel")
            self._pool.shutdown("now")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Shut down and wait. On the way out of a Ctrl-C nothing is waited for: running tasks are killed."""
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt) and not self._pool.is_foreign():
            self._pool.shutdown("now")
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._pool.shutdown("now")
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """As `__exit__`, while the event loop goes on. A coroutine that is cancelled waits for nothing, either."""
        import asyncio

        cut_short = exc_type is not None and issubclass(exc_type, (KeyboardInterrupt, asyncio.CancelledError))
        try:
            if cut_short and not self._pool.is_foreign():
                self._pool.shutdown("now")
            self._close_inputs(cancel=False)  # here: the input of an `amap` is read on the event loop
            await asyncio.to_thread(self.shutdown)
        except BaseException:  # cancelled while it waited
            self._pool.shutdown("now")
            raise
