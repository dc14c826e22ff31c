"""Your Python functions on supervised worker processes: nothing is lost when one dies.

Scripts and notebooks::

    import disttask

    future = disttask.submit(pow, 2, 10)
    assert future.result() == 1024

Instead of `concurrent.futures.ProcessPoolExecutor`::

    with disttask.Executor(max_workers=4) as executor:
        results = list(executor.map(abs, [-1, -2, -3]))
"""

import sys as _sys

if not _sys.platform.startswith("linux"):
    raise ImportError(
        f"disttask runs on Linux only for now (it builds on pidfd, memfd and epoll); this is {_sys.platform}"
    )

from ._default import configure, default_executor
from ._exceptions import (
    DeserializationError,
    DisttaskError,
    ForkedPoolError,
    InvalidTask,
    PoolBroken,
    PoolShutdown,
    RemoteError,
    RemoteTraceback,
    ResultEvicted,
    SerializationError,
    TaskTimeout,
    UnknownTask,
    WorkerCrashed,
)
from ._executor import Executor, Submitter
from ._future import Future
from ._native import __version__
from ._tasks import get_results, serialize_task, status, submit

__all__ = [
    "DeserializationError",
    "DisttaskError",
    "Executor",
    "ForkedPoolError",
    "Future",
    "InvalidTask",
    "PoolBroken",
    "PoolShutdown",
    "RemoteError",
    "RemoteTraceback",
    "ResultEvicted",
    "SerializationError",
    "Submitter",
    "TaskTimeout",
    "UnknownTask",
    "WorkerCrashed",
    "__version__",
    "configure",
    "default_executor",
    "get_results",
    "serialize_task",
    "status",
    "submit",
]
