"""The native half of disttask. Internal: use the names that the package `disttask` exports.

Native threads never take the GIL; every wait here releases it and serves signals every 50 ms.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Literal, Self, TypeAlias, TypeVar, final

from typing_extensions import disjoint_base

from ._future import Future as TaskFuture

_T = TypeVar("_T")

__version__: str
ABI3: bool
"""Whether this build uses the stable ABI (one wheel for all versions) instead of this Python's own."""
HARDENING: dict[str, str]
"""Headers that every answer over HTTP carries."""
MAX_WORKERS: int
"""The largest pool, 1024: each worker takes a process and a few descriptors."""

ShutdownMode: TypeAlias = Literal["drain", "cancel", "now"]

def usable_cpus() -> int:
    """Processors that this process may use: the affinity mask, cut by a cgroup v1 or v2 quota."""

def before_fork() -> None:
    """Give large arrays of results, or of arguments, memory that is this process's own.

    Raises:
        MemoryError: there was none for some; the child that is forked now shares these.
    """

def after_fork_in_parent() -> None:
    """The other end of `before_fork`."""

def stack_signal() -> int:
    """The signal at which a worker shows its stacks."""

def soft_signal() -> int:
    """The signal at which a worker looks whether its task is over its soft time-out."""

def after_fork_in_child() -> None:
    """Close the host's ends of all control sockets, and disown its pools; touches no lock."""

def ending() -> None:
    """The main thread has ended: from now on a pool that was shut down was so by the end of the interpreter."""

def after_shutdown() -> str:
    """Why a pool that was shut down takes no task."""

def finalizing() -> None:
    """Called by `atexit`: from now on no other thread returns from a native wait."""

def mentions(data: bytes, name: bytes, /) -> bool:
    """Whether it is in there: as ``name in data``, at the speed of memory."""

def raised_by_handler(exc: BaseException, /) -> bool | None:
    """Whether a signal handler has raised what the caller has caught; ``None``: one may have that leaves no trace."""

@final
class Function:
    """A function that was pickled once. `reuse`: each worker loads it once; else anew for each task."""

    def __new__(cls, pool: Pool, pickle: bytes, name: str, reuse: bool) -> Function: ...
    @property
    def name(self) -> str:
        """What to call it in errors."""

@final
class Calls:
    """Calls of one function that `map` has submitted together, each a task, or some of them one."""

    def __len__(self) -> int: ...
    def _take(self, ordered: bool) -> tuple[list[Any], list[tuple[int, int, Any]]]:
        """Values that are there; and what needs unpickling: its place among them, the task's index, its future."""
    def _is_resolved(self) -> bool:
        """Whether every task has ended."""
    def _is_taken(self) -> bool:
        """Whether every outcome was taken."""
    def _nanos(self) -> int | None:
        """How long all of it took, in nanoseconds."""
    def _ready_bytes(self) -> int:
        """Bytes of the outcomes that could be taken now."""
    @staticmethod
    def _wait_any(calls: Sequence[tuple[Calls, int]], timeout: float | None) -> bool:
        """Wait until one of the first so many of these calls has ended, or (0) all have. `False`: the time is over."""
    def _worth_waiting_for(self, count: int) -> list[Any] | None:
        """What `_wait_any` would wait for, as futures; `None`: it would not."""
    def _cancel(self) -> None:
        """Take back what no worker has begun."""

@disjoint_base
class Submitter:
    """Whatever has a `submit`, with the options of its tasks."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def _bind(self, pool: Pool, future: type[Future], options: Any = None) -> None: ...
    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> TaskFuture[_T]:
        """Schedule ``fn(*args, **kwargs)`` and return its `disttask.Future`.

        What cannot be pickled fails the future (with `SerializationError`), as with `ProcessPoolExecutor`. A function
        that is importable, or that uses nothing mutable, is pickled once; any other with each call. Where large
        arguments fill the memory set aside for them (a quarter of the machine's), this waits until tasks have ended.
        Futures of this executor, anywhere in the arguments, are waited for, and stand for their values.

        Raises:
            RuntimeError: the executor was shut down, or belongs to the parent of this (forked) process.
            disttask.PoolBroken: its workers cannot be started.
            TypeError: `fn` is not callable, or an ``async def`` function.
        """
    def _submit_pickled(self, data: bytes, name: str, retain: bool, inputs: list[Input] | None = None) -> Any: ...
    def _submit_call(
        self,
        function: Function,
        args: tuple[Any, ...],
        data: bytes | None,
        inputs: list[Input] | None = None,
    ) -> Any | None: ...
    def _put(self, value: Any, constant: bool, data: bytes | None = None) -> Input | None:
        """Put an object into the pool; ``None``: it must be pickled by cloudpickle, and come as `data`."""
    def _submit_chunk(self, function: Function, spread: bool, items: list[Any]) -> Any: ...
    def _submit_calls(
        self, function: Function, spread: bool, items: list[Any], size: int
    ) -> tuple[Calls, BaseException | None]:
        """Queue calls, `size` of them as one task. Stops at one that cannot be sent, and says why."""
    def _function(self, func: Callable[..., Any]) -> Function | None:
        """The function, if it need not be pickled again."""

@final
class Input:
    """What pickles of a pool's tasks name by key: the value of another task, or an object that was put."""

    @property
    def key(self) -> int: ...
    @property
    def pool_id(self) -> int: ...
    @property
    def nbytes(self) -> int | None:
        """Bytes of its pickle; ``None``: it is not there yet."""

@final
class Pickling:
    """Within its block this thread is pickling for that call; with ``None``, for none."""

    def __new__(cls, call: Any | None) -> Self: ...
    def __enter__(self) -> Any: ...
    def __exit__(self, _kind: object = None, _exc: object = None, _traceback: object = None) -> None: ...
    @staticmethod
    def call() -> Any | None:
        """What this thread is pickling for."""

@disjoint_base
class Future:
    """A task's slot, and what was loaded from it. Made without a task it is resolved, and has nothing in it."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def result(self, timeout: float | None = None) -> Any:
        """Return the task's value, or raise its exception.

        Args:
            timeout: seconds to wait; ``None`` waits for ever. Ctrl-C ends the wait and leaves the task alone.

        Raises:
            TimeoutError: the task has not finished in time (``done()`` is ``False``), or it ran longer than its own
                timeout (`disttask.TaskTimeout`, ``done()`` is ``True``).
            concurrent.futures.CancelledError: it was cancelled.
            disttask.WorkerCrashed: its worker died.
        """
    @staticmethod
    def _wait_first(futures: Sequence[Future], count: int, timeout: float | None) -> bool:
        """Wait until the first of these futures of one pool is resolved, or `count` are. `False`: the time is over."""
    def _numbers(self) -> list[Any] | None:
        """The values of a chunk of `map`, where they are all numbers."""
    def _ran(self) -> int | None:
        """How long a chunk of `map` took, in nanoseconds; `None` for anything else."""
    def _bytes(self) -> int:
        """Bytes of the outcome; 0 without one."""
    def _keep(self, value: Any, exception: BaseException | None) -> tuple[Any, BaseException | None]:
        """Keep what was loaded; what was kept first counts, and is returned."""
    def _kept(self) -> tuple[Any, BaseException | None] | None:
        """What was kept."""
    @property
    def _seq(self) -> int:
        """The task's number in its pool, from 1; 0 without a task."""
    @property
    def _task_id(self) -> str | None:
        """The task's id as text; `None` without a task."""
    @property
    def _pool_id(self) -> int:
        """The pool's number in this process, from 1; 0 without a pool."""
    def _name(self) -> str | None:
        """The name of its function, as long as the pool remembers it."""
    def _kind(self) -> Literal["value", "values", "error", "failed", "cancelled", "released"] | None:
        """How it ended; `None` before it has."""
    def _outcome(self) -> tuple[str, Any] | None:
        """`_kind` and the data: a value's or an error's pickle, or pickle and buffers; a dict for a failure."""
    def _input(self) -> Input | None:
        """Its value, to be given to other tasks; `None`: only its owner has it."""
    def _observe(self) -> bool:
        """Have the resolution announced through `Pool.collect`. `False`: it is resolved already, and won't be."""
    def _is_observed(self) -> bool: ...
    def _is_resolved(self) -> bool: ...
    def _is_running(self) -> bool: ...
    def _cancel(self) -> bool:
        """Cancel it if no worker has begun it, or, with ``kill_on_cancel``, as `_kill`."""
    def _kill(self) -> bool:
        """Cancel it if no worker has begun it, else have the worker killed. `False`: it has ended."""
    def _has_output(self) -> bool:
        """Whether its pool has output that has not been shown."""
    def _output(self, stream: str | None = None) -> str:
        """What is kept of its output; how much is not stands in its first line."""
    def _stack(self, timeout: float) -> str | None:
        """The stacks of the worker that runs it; `None`: none does."""
    def _release(self) -> None:
        """Drop the outcome's bytes, unless the pool's result store keeps them."""
    def _wait(self, timeout: float | None = None) -> bool:
        """Wait until it is resolved, `timeout` seconds at most. `False`: it is not."""

def track(future: Future) -> None:
    """Have the garbage collector look at it: it is about to refer to something. One just submitted is left out."""

@final
class Pool:
    """A scheduler, its driver thread and its worker processes, which start at once."""

    def __new__(
        cls,
        *,
        workers: int,
        executable: str,
        args: list[str],
        env: list[tuple[str, str]],
        use_pidfd: bool,
        use_memfd: bool,
        capture: bool,
        config: bytes,
        fds: list[int],
        hello: bytes,
        prefix: str,
        seed: int,
        max_tasks: int | None,
        max_age: float | None,
        max_memory: int | None,
        slow_starts: bool,
        keep_results: int,
        keep_bytes: int,
        keep_seconds: float,
        arena_bytes: int,
        room_seconds: float,
        queue_bound: tuple[int, bool] | None = None,
    ) -> Pool: ...
    @property
    def id(self) -> int:
        """Its number in this process, from 1."""
    def shutdown(self, mode: ShutdownMode) -> None:
        """Accept nothing more; finish everything, or what has begun, or nothing. Returns at once."""
    def resize(self, workers: int, args: list[str], env: list[tuple[str, str]], config: bytes) -> None:
        """Have so many workers. The rest is for those that are started from now on."""
    def restart(self, args: list[str], env: list[tuple[str, str]], config: bytes, wait: bool) -> None:
        """Replace each worker when its task is done; `wait` until the old ones are gone."""
    def terminate(self) -> None:
        """Stop at once, by SIGTERM; who is still there after 5 s is killed."""
    def wait_gone(self, timeout: float | None = None) -> bool:
        """Wait until no process is left, `timeout` seconds at most. `False`: there are some."""
    def collect(self) -> list[int] | None:
        """Wait for observed futures that were resolved: their numbers. `None`: there will be no more."""
    def wait_output(self) -> bool:
        """Wait until there is output to show. `False`: there will never be."""
    def take_output(self) -> tuple[int | None, int, str, bool, bytes] | None:
        """The next piece: task, pid, stream, whether it came from a descriptor, text. The one before has been shown."""
    def has_output(self) -> bool:
        """Whether some has not been shown."""
    def id_text(self, task: int) -> str:
        """The task's id as text."""
    def status(self) -> dict[str, Any]:
        """See `disttask.Executor.status`."""
    def lookup(self, task_id: str) -> tuple[Literal["kept", "evicted", "unknown"], Future | None]:
        """A task that was submitted with `retain`."""
    def retained_finished(self) -> list[Future]:
        """Finished tasks that are kept, in order of completion."""
    def retained_pending(self) -> list[Future]:
        """Tasks to be kept that have not finished, in order of submission."""
    @property
    def submitted(self) -> int:
        """How many tasks there have been: the number of the last one."""
    def stop_from(self, first: int) -> None:
        """Cancel what waits of the tasks with this number and higher ones, and kill what runs. Returns at once."""
    def forget_functions(self) -> None:
        """Let go of what was kept of functions, once the pool is gone."""
    @property
    def queuing(self) -> int:
        """Threads that wait for room in a queue with a bound."""
    def pids(self) -> list[int]:
        """The worker processes that there are."""
    def is_foreign(self) -> bool:
        """Whether the pool belongs to the parent of this forked process."""

@final
class Worker:
    """The worker process's end of its control socket."""

    @staticmethod
    def attach() -> tuple[Worker, Nest, bytes, list[int]]:
        """Take the socket over from stdin, and start the native watch.

        The bytes are the host's configuration; the numbers are descriptors that the host shares, copies of them.
        """
    def ready(self, hello: bytes) -> None:
        """Shake hands."""
    def input(self, key: int) -> Any:
        """What a task was given under this key."""
    def claim_soft_timeout(self) -> tuple[Any, int, int] | None:
        """What the main thread runs, if that is over its soft time-out and this was not said before.

        That is the `Guarded` function, the task's number, and the attempt.
        """
    def write(self, stream: str, data: Any) -> int:
        """Print for the task that runs: to ``stdout``, ``stderr`` or ``log``. The number of bytes."""
    def flush(self) -> None:
        """Send partial lines, too."""
    def stack_fd(self) -> int:
        """Where stacks are written to."""
    def serve(self, helpers: ModuleType) -> None:
        """Take tasks, run them and answer, until the host says stop. `helpers` is `disttask._worker`."""

@final
class Nest:
    """What tasks of this worker ask of the host about tasks that they submit. Any thread may use it.

    Raises:
        RuntimeError: this process is a fork of the worker.
        OSError: the host is gone.
    """

    def submit(self, call: bytes, name: str, priority: int, retries: int) -> NestedTask:
        """Submit a pickled call.

        Raises:
            RuntimeError: the pool takes no more, or there is no memory for the payload.
            PoolBroken: the pool is broken.
        """
    def ended(self) -> int:
        """How many tasks of this worker have ended so far."""
    def wait(self, seen: int, seconds: float) -> None:
        """Wait until that number is not `seen` any more, at most so long. Signal handlers run meanwhile."""

@final
class NestedTask:
    """A task that a task of this worker has submitted. Any thread may use it.

    Each method does all that it does, or nothing, whatever signal handlers raise. When the object is gone, nobody can
    ask for the outcome; the task is run all the same.

    Raises:
        RuntimeError: this process is a fork of the worker.
        OSError: the host is gone, or there is no memory for the outcome (it can be asked for again).
    """

    @property
    def number(self) -> int:
        """The pool's for it."""
    def look(self, claim: bool, steps: Any) -> str:
        """How it has ended: ``value``, ``error``, ``failed`` or ``cancelled``.

        If it has not: ``pending``, ``running``, or ``here`` where another thread of this process runs it. With `claim`,
        one that nobody has begun is run in this call, by means of `steps` (the module `disttask._worker`). Raises what
        hits this thread while it does so, and not the task.
        """
    def ended(self) -> str | None:
        """How it has ended, as far as is known here without asking."""
    def outcome(self) -> tuple[str, Any] | None:
        """How it has ended, and the data (a failure's is JSON); ``None`` before that and after `loaded`."""
    def loaded(self) -> None:
        """The data is not needed any more."""
    def wait(self, seconds: float) -> None:
        """Wait until it is known here to have ended, at most so long. Signal handlers run meanwhile."""
    def cancel(self) -> bool:
        """Cancel it if nobody has begun it. Whether it is cancelled."""

@final
class HttpServer:
    """The HTTP interface to a pool, on a socket and a thread of its own.

    Raises:
        OSError: the address cannot be had, or the certificate is of no use.
    """

    def __new__(
        cls,
        pool: Pool,
        *,
        host: str,
        port: int,
        allow_hosts: list[str],
        token: str | None,
        tls: tuple[str, str] | None,
        max_body: int,
        python: str,
    ) -> HttpServer: ...
    @property
    def host(self) -> str:
        """The address it listens on."""
    @property
    def port(self) -> int:
        """The port it listens on."""
    def login_path(self) -> str | None:
        """A new path that logs a browser in, once. `None`: no token is asked for, or it was stopped."""
    def stop(self) -> None:
        """Stop listening; waiting requests are answered, others have 2 s. Returns when the thread has ended."""

@final
class HttpApi:
    """The same interface, for requests that another server has received."""

    def __new__(
        cls,
        pool: Pool,
        *,
        hosts: list[str],
        port: int,
        token: str | None,
        tls: bool,
        max_body: int,
        python: str,
    ) -> HttpApi: ...
    def login_path(self) -> str | None:
        """As `HttpServer.login_path`."""
    def check(
        self, method: str, target: str, headers: list[tuple[str, str]]
    ) -> tuple[tuple[int, list[tuple[str, str]]], bytes] | None:
        """The answer to a request that is not let in, before it has a body; `None`: it is let in."""
    def handle(
        self, method: str, target: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[tuple[int, list[tuple[str, str]]], Pieces]:
        """Answer a request: status, headers, and the body in pieces."""
    def close(self) -> None:
        """Stop its thread."""

@final
class Pieces:
    """The body of an answer; an iterator of bytes."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> bytes: ...
    def close(self) -> None:
        """Nobody reads on."""
