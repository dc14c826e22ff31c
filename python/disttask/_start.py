"""What workers are started with: checked, and put together anew whenever that may have changed."""

from __future__ import annotations

import os
import sys

from . import _filters, _handshake, _native, _sharing
from ._checks import bytes_limit, can_be_iterated, is_async, limit, seconds_limit, several, truth
from ._exceptions import SerializationError
from ._inputs import apart
from ._output import log_levels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.context import BaseContext
    from typing import Any

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What numerical libraries ask for the number of their threads. The first one counts for most of them, where their own
is not set."""


class Start:
    """What the workers of one executor are started with. See `Executor` for the arguments."""

    def __init__(
        self,
        prefix: str,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        finalizer: Callable[[], object] | None,
        preload: Iterable[str],
        env: Mapping[str, str] | None,
        blas_threads: int | bool | None,
        capture_output: bool,
        forward_logging: bool,
        context: list[tuple[str, str]],
    ) -> None:
        self._prefix = prefix
        self._preload = _checked_preload(preload)
        self._env = _checked_env(env)
        self._threads = _checked_threads(blas_threads)
        self._capture_output = truth("capture_output", capture_output)
        self._forward_logging = truth("forward_logging", forward_logging)
        self._context = context
        # What only they hold, such as a lock of multiprocessing, is to be there when a later worker unpickles them.
        self._kept: tuple[object, ...] = (initializer, initargs, finalizer)
        self._initialize, self.descriptors = _pickled(initializer, initargs, finalizer)
        self._tracker = _sharing.tracker_descriptor()
        if self._tracker is not None:
            self.descriptors.append(self._tracker)
            self._tracker = len(self.descriptors) - 1

    def let_go(self) -> None:
        """There will be no more workers."""
        self._kept = ()

    def is_slow(self) -> bool:
        """Whether they run code of the user's before they are ready."""
        return self._initialize is not None or bool(self._preload)

    def now(self, workers: int) -> tuple[list[str], list[tuple[str, str]], bytes]:
        """Arguments, environment and configuration for workers that are started now, of so many."""
        env = dict(_handshake.worker_env())
        if self._threads is not False:
            threads = self._threads or max(1, _native.usable_cpus() // workers)
            if self._threads is not None:
                env.update(dict.fromkeys(THREADS, str(threads)))
            elif THREADS[0] not in env:
                env = dict.fromkeys(THREADS, str(threads)) | env
        env.update(self._env)
        config = _handshake.worker_config(
            capture_output=self._capture_output,
            log_levels=log_levels() if self._forward_logging else None,
            pool=(self._prefix, workers),
            initialize=self._initialize,
            preload=self._preload,
            authkey=_sharing.authkey(),
            tracker=self._tracker,
            warnings=_filters.taken(),
            context=self._context,
        )
        return _handshake.worker_args(), list(env.items()), config


def checked_workers(max_workers: int | None) -> int:
    """The number of workers to start; see `Executor`."""
    if max_workers is None:
        return min(_native.usable_cpus(), _native.MAX_WORKERS)
    if isinstance(max_workers, bool) or not isinstance(max_workers, int):
        raise TypeError(f"max_workers must be an int or None, not {type(max_workers).__name__}")
    if max_workers <= 0:
        raise ValueError(f"max_workers must be greater than 0, not {max_workers}")
    if max_workers > _native.MAX_WORKERS:
        raise ValueError(f"max_workers must be at most {_native.MAX_WORKERS}, not {max_workers}")
    return max_workers


def checked_bound(max_pending: int | None, on_full: str) -> tuple[int, bool] | None:
    """How many tasks may be unfinished, and whether `submit` then waits; see `Executor`."""
    if on_full not in ("block", "raise"):
        raise ValueError(f'on_full must be "block" or "raise", not {on_full!r}')
    bound = limit("max_pending", max_pending, sys.maxsize)
    return None if bound is None else (bound, on_full == "block")


def checked_lifetime(tasks: int | None, age: float | None, memory: int | None) -> dict[str, Any]:
    """When workers are replaced, as `_native.Pool` takes it."""
    return {
        "max_tasks": limit("max_tasks_per_child", tasks, 2**32 - 1),
        "max_age": seconds_limit("max_worker_age", age),
        "max_memory": bytes_limit("max_worker_memory", memory),
    }


def checked_context(context: BaseContext | None) -> BaseContext | None:
    """`mp_context`, if it is one."""
    # Not by its class: `multiprocessing` itself is one, and so are those of its forks.
    if context is not None and not callable(getattr(context, "get_start_method", None)):
        raise TypeError(
            "mp_context must be a context of multiprocessing, such as multiprocessing.get_context('spawn'), or None, "
            f"not {type(context).__name__}"
        )
    return context


def checked_executable(executable: str | os.PathLike[str] | None) -> str:
    """The interpreter, with a path."""
    if executable is not None and not isinstance(executable, (str, os.PathLike)):
        raise TypeError(f"executable must be a path (str or os.PathLike) or None, not {type(executable).__name__}")
    path = os.fspath(executable) if executable is not None else sys.executable
    if path and os.sep not in path:
        import shutil

        path = shutil.which(path) or path
    if not path:
        raise RuntimeError(
            "sys.executable is empty (is Python embedded here?): pass Executor(executable=...) the path of the "
            "Python interpreter to run the workers with"
        )
    return path


def _checked_preload(names: Iterable[str]) -> list[str]:
    checked: list[str] = several("preload", names, "module names")
    for name in checked:
        if not isinstance(name, str):
            raise TypeError(f"preload must be a list of module names, not of {type(name).__name__}")
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(f"preload holds {name!r}, which is no module's full name")
    return checked


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str]:
    try:
        checked = dict(env or {})
    except (TypeError, ValueError) as exc:
        raise TypeError(f"env must map str to str, as a dict does, not be of type {type(env).__name__}") from exc
    for name, value in checked.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env must map str to str, not {name!r} to {value!r}")
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"env cannot hold {name!r}: {value!r}: names are not empty and have no '=', none has NUL")
    return checked


def _checked_threads(threads: int | bool | None) -> int | bool | None:
    if threads is None or threads is False:
        return threads
    if threads is True or not isinstance(threads, int):
        raise TypeError(f"blas_threads must be an int, False or None, not {threads!r}")
    if threads < 1:
        raise ValueError(f"blas_threads must be >= 1, not {threads}; False leaves the libraries their own number")
    return threads


def _pickled(
    initializer: Callable[..., object] | None, initargs: tuple[Any, ...], finalizer: Callable[[], object] | None
) -> tuple[bytes | None, list[int]]:
    for name, value in (("initializer", initializer), ("finalizer", finalizer)):
        if value is not None and not callable(value):
            raise TypeError(f"{name} must be a callable, not {type(value).__name__}")
        if value is not None and is_async(value):
            raise TypeError(f"{name} is an async def function, which a call does not run: give one that runs it")
    if isinstance(initargs, (str, bytes)) or not can_be_iterated(initargs):
        raise TypeError(
            "initargs must be a tuple of the initializer's arguments, also of a single one, initargs=(x,), "
            f"not {type(initargs).__name__}"
        )
    if initializer is None and finalizer is None:
        return None, []
    initargs = () if initializer is None else tuple(initargs)
    try:
        # In one pickle, so that functions of one module that travel by value have their globals in common.
        with apart():
            return _sharing.dumps_for_start((initializer, initargs, finalizer))
    except Exception as exc:
        raise SerializationError(
            f"the initializer, its arguments or the finalizer cannot be pickled, so workers cannot be given them: "
            f"{type(exc).__name__}: {exc}"
        ) from exc
