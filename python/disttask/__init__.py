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

if not hasattr(_sys.modules["__main__"], "_disttask_worker"):
    import concurrent.futures as _futures  # noqa: F401 - half of what an Executor needs; a worker does without it

from ._native import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._client import Client, ClientSubmitter, ServerRefused, ServerUnproven, ServerUnreachable
    from ._default import DefaultExecutorError, configure, default_executor
    from ._exceptions import (
        DependencyFailed,
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
        SoftTimeout,
        TaskMemoryExceeded,
        TaskTimeout,
        UnknownTask,
        WorkerCrashed,
    )
    from ._executor import Executor
    from ._flow import QueueFull
    from ._functions import Task, task
    from ._future import Future
    from ._inputs import Ref
    from ._progress import as_completed, wait
    from ._serve import Server
    from ._submitter import Submitter
    from ._tasks import DefaultSubmitter, get_results, options, serialize_task, status, submit
    from ._token import TokenFileError
del TYPE_CHECKING

_LATE = {
    "Client": "_client",
    "ClientSubmitter": "_client",
    "DefaultExecutorError": "_default",
    "DefaultSubmitter": "_tasks",
    "DependencyFailed": "_exceptions",
    "DeserializationError": "_exceptions",
    "DisttaskError": "_exceptions",
    "Executor": "_executor",
    "ForkedPoolError": "_exceptions",
    "Future": "_future",
    "InvalidTask": "_exceptions",
    "PoolBroken": "_exceptions",
    "PoolShutdown": "_exceptions",
    "QueueFull": "_flow",
    "Ref": "_inputs",
    "RemoteError": "_exceptions",
    "RemoteTraceback": "_exceptions",
    "ResultEvicted": "_exceptions",
    "SerializationError": "_exceptions",
    "Server": "_serve",
    "ServerRefused": "_client",
    "ServerUnproven": "_client",
    "ServerUnreachable": "_client",
    "SoftTimeout": "_exceptions",
    "Submitter": "_submitter",
    "Task": "_functions",
    "TaskMemoryExceeded": "_exceptions",
    "TaskTimeout": "_exceptions",
    "TokenFileError": "_token",
    "UnknownTask": "_exceptions",
    "WorkerCrashed": "_exceptions",
    "as_completed": "_progress",
    "configure": "_default",
    "default_executor": "_default",
    "get_results": "_tasks",
    "options": "_tasks",
    "serialize_task": "_tasks",
    "status": "_tasks",
    "submit": "_tasks",
    "task": "_functions",
    "wait": "_progress",
}
"""Where each name is defined. Loaded when it is first asked for: a worker needs few of them, and an import none."""


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value
    return value


__all__ = [
    "Client",
    "ClientSubmitter",
    "DefaultExecutorError",
    "DefaultSubmitter",
    "DependencyFailed",
    "DeserializationError",
    "DisttaskError",
    "Executor",
    "ForkedPoolError",
    "Future",
    "InvalidTask",
    "PoolBroken",
    "PoolShutdown",
    "QueueFull",
    "Ref",
    "RemoteError",
    "RemoteTraceback",
    "ResultEvicted",
    "SerializationError",
    "Server",
    "ServerRefused",
    "ServerUnproven",
    "ServerUnreachable",
    "SoftTimeout",
    "Submitter",
    "Task",
    "TaskMemoryExceeded",
    "TaskTimeout",
    "TokenFileError",
    "UnknownTask",
    "WorkerCrashed",
    "__version__",
    "as_completed",
    "configure",
    "default_executor",
    "get_results",
    "options",
    "serialize_task",
    "status",
    "submit",
    "task",
    "wait",
]
