"""`Executor`: a `concurrent.futures` executor on supervised worker processes."""

from __future__ import annotations

import contextlib
import os
import weakref
from concurrent import futures as cf

from . import _handshake, _lifecycle, _native
from ._collector import Collector
from ._future import Future
from ._inputs import Ref, apart, is_constant
from ._options import Options
from ._pickling import dumps, importing, own_failure
from ._start import (
    Start,
    checked_bound,
    checked_context,
    checked_executable,
    checked_lifetime,
    checked_workers,
)
from ._submitter import Submitter, Tasks
from ._workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import ContextVar
    from multiprocessing.context import BaseContext
    from typing import Any, Literal, Unpack

    from ._options import TaskOptions
    from ._serve import Server

KEEP_RESULTS = 100_000
"""Finished results that `get_results` can look back on; some 30 MB of small ones."""

KEEP_BYTES = 256 * 2**20
"""Their bytes: 256 MiB."""

KEEP_SECONDS = 3600.0
"""Their age: an hour."""


class _Instead:
    """Something of `ProcessPoolExecutor`'s own that is widely used, and not there.

    No `__getattr__`: with one, each look at any attribute, as of `submit`, would take longer.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError(
            f"{owner.__name__!r} object has no attribute {self._name!r}: {self._text}", name=self._name, obj=instance
        )


class Executor(Tasks, Workers, cf.Executor):
    """Run callables on worker processes. A worker runs one task at a time; short ones wait there for their turn.

    Workers are fresh interpreters (never forks), started at once; in a worker, which may import a module that makes an
    executor, at its first use. A worker that dies fails at most the task that it was running, with `WorkerCrashed`, and
    is replaced; everything else goes on. Functions, classes and exceptions that are defined in ``__main__`` or a
    notebook travel by value: no ``if __name__ == "__main__":`` guard is needed.

    Args:
        max_workers: number of worker processes, 1 to 1024. ``None``: one per processor that this process may use
            (affinity mask and cgroup quota are respected).
        mp_context: a context of `multiprocessing`, taken so that `ProcessPoolExecutor` can be replaced. No effect:
            workers are fresh interpreters whatever its start method, as with ``"spawn"``, and need no main guard. Locks
            and queues for `initargs` are to be made with ``multiprocessing.get_context("spawn")``.
        initializer: is called in each worker before it takes tasks, ``initializer(*initargs)``, and may take its time.
            Where it raises, the pool is broken: whatever waits or comes fails with `PoolBroken`, whose text has the
            traceback.
        initargs: its arguments; pickled once. `multiprocessing`'s locks, queues, pipes, shared values and managers are
            allowed here, and nowhere else.
        max_tasks_per_child: replace each worker after so many tasks; ``None``: never. The next one starts while the old
            one leaves. Each item of `map` is then a task, unless `chunksize` says otherwise.
        finalizer: is called in each worker at an orderly end (shutdown, recycling, `restart`), before its `atexit`
            handlers; both together have 5 s. Not where a worker is killed. What it raises is printed.
        preload: names of modules that each worker imports before it takes tasks (and before `initializer`). Where one
            cannot be imported, the pool is broken.
        max_worker_age: seconds after which a worker is replaced, between two tasks; one after the other.
        max_worker_memory: bytes. A worker that is found to have more in memory (its resident set; looked at twice a
            second) is replaced when its task is done. To end tasks that take too much is not what this does.
        env: environment variables for workers, beside those of this process.
        blas_threads: how many threads numerical libraries (OpenMP, OpenBLAS, MKL, BLIS, Accelerate, numexpr) use in
            each worker, told them by ``OMP_NUM_THREADS`` and the like. ``None``: processors divided by workers, unless
            this process's environment says it. ``False``: say nothing, so that each takes all processors.
        executable: the Python interpreter of the workers; ``None``: `sys.executable`. It must be of the same version
            and have the same disttask.
        capture_output: whether what tasks print comes to this process, which writes it to its `sys.stdout` and
            `sys.stderr` of that moment and keeps it for `Future.output`; ``False``: workers have its own stdout.
        forward_logging: whether log records of tasks are handed to this process's loggers of the same name, unless the
            task calls `logging.basicConfig`. Levels are those that loggers have when the executor is made, or last
            resized or restarted.
        max_pending: how many tasks may be unfinished before `submit` waits; ``None``: any number. `map`, which has a
            bound of its own, is not held up, and nor is what comes over HTTP.
        on_full: ``"block"``: then `submit` waits until a task has ended; ``"raise"``: it raises `QueueFull`.
        context: `contextvars.ContextVar` objects, each a global of a module that workers can import. In a task they
            have the values that they had when it was submitted (`map`: when that was called), be that here or in
            another task. What a task sets ends with it. `submit` then pickles function and values each time.

    Raises:
        ValueError: a number is out of range, a name cannot be one, or a context variable is in no imported module.
        TypeError: an argument is of the wrong type.
        SerializationError: `initializer`, `initargs` or `finalizer` cannot be pickled.
        OSError: the pool's own descriptors or thread cannot be had.
        RuntimeError: there is no interpreter to start (`sys.executable` is empty).
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_worker_age: float | None = None,
        max_worker_memory: int | None = None,
        finalizer: Callable[[], object] | None = None,
        preload: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        blas_threads: int | bool | None = None,
        executable: str | os.PathLike[str] | None = None,
        capture_output: bool = True,
        forward_logging: bool = True,
        max_pending: int | None = None,
        on_full: Literal["block", "raise"] = "block",
        context: Iterable[ContextVar[Any]] = (),
        _keep: tuple[int, int, float] = (KEEP_RESULTS, KEEP_BYTES, KEEP_SECONDS),
    ) -> None:
        self._max_workers = checked_workers(max_workers)
        self._mp_context = checked_context(mp_context)
        if context:
            from ._context import Context, with_context

            self._context = Context.of(context)
            cls: Any = type(self)
            self.__class__ = with_context(cls)
        self._prefix = os.urandom(8).hex()
        self._start = Start(
            self._prefix, initializer, initargs, finalizer, preload, env, blas_threads, capture_output, forward_logging,
            [] if self._context is None else self._context.names(),
        )  # fmt: skip
        keep_results, keep_bytes, keep_seconds = _keep
        given = {
            "executable": checked_executable(executable),
            "capture": capture_output,
            "keep_results": keep_results,
            "keep_bytes": keep_bytes,
            "keep_seconds": keep_seconds,
            "queue_bound": checked_bound(max_pending, on_full),
            **checked_lifetime(max_tasks_per_child, max_worker_age, max_worker_memory),
        }
        self._map_times = {}
        self._live_maps = weakref.WeakValueDictionary()
        self._one_by_one = max_tasks_per_child is not None
        self._is_bounded = max_pending is not None
        self._servers: list[Server] = []
        _made[self._prefix] = self
        if _handshake.in_worker():
            importing("disttask._unused")
            from . import _unused

            self._given_to_pool = given
            _unused.wait(self, _unused.Unused)
        else:
            self._open(given)

    def _open(self, given: dict[str, Any]) -> None:
        """Start the workers."""
        args, environment, config = self._start.now(self._max_workers)
        pool = _native.Pool(
            workers=self._max_workers,
            args=args,
            env=environment,
            use_pidfd=_handshake.NO_PIDFD not in os.environ,
            use_memfd=_handshake.NO_MEMFD not in os.environ,
            config=config,
            fds=self._start.descriptors,
            hello=_handshake.hello(),
            prefix=self._prefix,
            seed=int.from_bytes(os.urandom(8), "little"),
            slow_starts=self._start.is_slow(),
            arena_bytes=_arena_bytes(),
            room_seconds=_ROOM_SECONDS,
            **given,
        )
        try:
            self._collector = Collector(pool)
            _lifecycle.register(pool, self._collector, self._live_maps)
            weakref.finalize(self, _lifecycle.abandon, pool).atexit = False
            self._pool = pool
            if not _handshake.in_worker():
                self._bind(pool, Future)
        except BaseException:  # Ctrl-C: nobody will ever have these workers
            vars(self).pop("_pool", None)
            _lifecycle.give_up(pool)
            raise

    def _begin(self) -> None:
        """In a worker, at the first use."""
        if "_pool" not in vars(self):
            self._open(self._given_to_pool)
        self._bind(self._pool, Future)

    def options(self, **options: Unpack[TaskOptions]) -> Submitter:
        """Options for the tasks submitted through the object returned: ``executor.options(retries=3).submit(f, x)``.

        They hold for `submit`, and for each item of `map`, with a `chunksize` as well.

        Args:
            retries: how often a task may be run again (`int`, 0) after its worker died, and with `retry_on` after an
                exception. It has then run at least in part: use it for functions that may run twice.
            retry_on: an exception class, a tuple of them, or a function that takes the exception and says whether to
                try again (``None``: no exception is tried again). It is looked at in the worker. What that function
                raises is noted on the task's exception, which is then not tried again. Where a class covers
                `TaskTimeout` (or `TaskMemoryExceeded`), attempts that ran out of time (or took too much memory) are
                tried again as well.
            backoff: seconds; the longest wait before the first retry, or that and the longest before any, as a pair
                (``(0.1, 30.0)``). The bound doubles with each retry; the wait is random below it.
            crash_limit: after so many worker deaths the task is given up, though it had `retries` left (`int`;
                ``None``: one more than `retries`, so all of them). Kills of our own, as for a timeout, do not count.
            timeout: seconds that one attempt may take (``None``: no limit). After it the worker is killed, whatever it
                is doing, and the future fails with `TaskTimeout`.
            soft_timeout: seconds after which `SoftTimeout` is raised inside the task (``None``: it is not), so that it
                can clean up before `timeout` ends it, which must be later (as Celery's ``soft_time_limit`` and
                ``time_limit``). If the task returns all the same, its future has the value; if it lets the exception
                out, the future has that, a `TaskTimeout` which counts as an exception of the task's own: its worker
                lives on, and it is tried again where `retry_on` covers it. The clock starts when a worker takes the
                task up, in each attempt. The exception reaches the main thread, also in a sleep or a system call, but
                not code in C before that returns to Python.
            max_memory: bytes by which the worker of one attempt may grow (`int`; ``None``: no limit). When it is found
                to have grown by more since the task was sent to it, it is killed, and the future fails with
                `TaskMemoryExceeded`. It is looked at ten times a second: a limit may be passed for that long, or
                unseen. What counts is the worker's own memory: its resident set without what is shared, as large
                arrays are that were passed. What the task imports counts; what processes have that it starts does not.
            priority: higher goes first among the waiting tasks; equal ones in order of submission (`int`, 0).
            name: what to call the task in errors, `status` and the dashboard (``None``: its function's name).
            tags: up to 16 strings that are shown with the name (``()``).
            kill_on_cancel: whether ``Future.cancel()`` stops a task that runs, as `Future.kill` does (`bool`, False).
                Cancelling an asyncio task that waits for the future (``await future``, `asyncio.wrap_future`,
                ``loop.run_in_executor``) then stops it as well.

        Raises:
            TypeError: there is no such option, or its value is of the wrong type.
            ValueError: a value is out of range, or `retry_on` or `backoff` is without `retries`.
        """
        return Submitter(self, Options(**options))

    def put(self, obj: object, /) -> Ref:
        """Put an object into the executor, for many tasks: ``ref = executor.put(table)``, ``executor.submit(f, ref)``.

        It is pickled once, and sent to each worker that needs it once. A task that is given the `Ref`, alone or in a
        container, gets a copy of the object, as it was when it was put; what cannot be changed (numbers, text, tuples
        of such) is the same object for all tasks of a worker.

        Args:
            obj: whatever can be pickled.

        Raises:
            RuntimeError: the executor was shut down, or belongs to the parent of this (forked) process.
            disttask.PoolBroken: its workers cannot be started.
            SerializationError: it cannot be pickled, or there is no memory for it.
        """
        constant = is_constant(obj)
        given = self._put(obj, constant)
        if given is None:
            try:
                with apart():
                    data = dumps(obj).data
            except Exception as exc:
                with apart():
                    own_failure(lambda: dumps(obj), exc)  # else it is a signal handler's, and raised
                importing("disttask._culprit")
                from ._culprit import refusal_to_put

                raise refusal_to_put(obj, exc) from exc
            given = self._put(None, constant, data)
            assert given is not None
        return Ref(given)

    def status(self) -> dict[str, Any]:
        """A snapshot of the executor.

        Returns:
            A dict with

            * ``workers``: a list of ``{worker, pid, state, task, tasks_done, restarts, memory_bytes, cpu_seconds}``;
              ``state`` is ``starting``, ``idle``, ``busy``, ``draining`` or ``restarting``, and ``task`` is ``None``
              or ``{id, name, tags, attempt}``;
            * ``queued`` and ``running``: numbers of tasks;
            * ``totals``: ``{submitted, succeeded, failed, cancelled, retried, worker_deaths}``; the failed ones
              raised, crashed, timed out or were cut off. ``worker_deaths`` are those that nobody has asked for: not of
              workers that were ended for a time-out, ``max_memory``, a kill, a restart or a heartbeat that stood still;
            * ``accepting``: whether `submit` works;
            * ``broken``: ``None``, or why the pool is broken.
        """
        return self._pool.status()

    def serve(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 5000,
        token_file: str | os.PathLike[str] | None = None,
        no_auth: bool = False,
        allow_hosts: Iterable[str] = (),
        tls: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        allow_plaintext: bool = False,
        max_body: int = 64 * 2**20,
    ) -> Server:
        """Open the HTTP interface and the dashboard to this executor, on a native thread of its own.

        Args:
            host: address to listen on. Beyond loopback, a token and TLS (or `allow_plaintext`) are required.
            port: 0 takes any free one; see ``Server.port``.
            token_file: where the token is, or is made; ``None``: the user's (``~/.local/state/disttask/token``).
            no_auth: ask for no token (on loopback only). Every user of this machine can then run code as you.
            allow_hosts: other names that clients may call this server by (in ``Host``).
            tls: certificate chain and private key, as PEM files.
            allow_plaintext: go without TLS beyond loopback, where something else encrypts.
            max_body: largest request, in bytes.

        Raises:
            ValueError: the combination is not safe.
            OSError: the address cannot be had; the certificate or the token file cannot be used.
        """
        from ._serve import serve

        return serve(
            self,
            host=host,
            port=port,
            token_file=token_file,
            no_auth=no_auth,
            allow_hosts=allow_hosts,
            tls=tls,
            allow_plaintext=allow_plaintext,
            max_body=max_body,
        )

    if not TYPE_CHECKING:
        _processes = _Instead("status()['workers'] has their pids, terminate_workers() and kill_workers() end them")
        _pending_work_items = _Instead("status() counts what is queued and running, max_pending=n bounds it")

    def __reduce__(self) -> Any:
        return executor_of, (self._prefix,)

    def __repr__(self) -> str:
        return f"<disttask.Executor max_workers={self._max_workers}>"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the workers, and how many tasks there are in which state."""
        from ._html import executor_html

        if "_pool" not in vars(self) or self._pool.is_foreign():
            return None
        return executor_html("disttask.Executor", self.status())

    def _forget_server(self, server: Server) -> None:
        with contextlib.suppress(ValueError):  # stopped twice
            self._servers.remove(server)


_made: weakref.WeakValueDictionary[str, Executor] = weakref.WeakValueDictionary()
"""The executors of this process, by the names of their pools."""


def executor_of(prefix: str, options: dict[str, Any] | None = None) -> Any:
    """What a pickled executor (or one with options) is in this process."""
    found: Any = _made.get(prefix)
    if found is None and _handshake.nesting is not None and _handshake.nesting[1][0] == prefix:
        from ._nested import NestedExecutor

        found = NestedExecutor()
    if found is None:
        raise RuntimeError(
            "an Executor can be used in the process that has made it and in its own tasks, and this is neither: "
            "make another Executor here, or submit from there"
        )
    return found if options is None else found.options(**options)


_ROOM_SECONDS = 30.0
"""How long `submit` waits for memory that workers keep though the tasks it was for have ended. An argument goes with
its last reference, or at the worker's next garbage collection; what is there after this long stands in a cache."""


def _arena_bytes() -> int:
    """Memory for payloads that are too large for a ring: a quarter of the machine's, taken as it is needed."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
