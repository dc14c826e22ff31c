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
from typing import TYPE_CHECKING as _TYPE_CHECKING

if not _sys.platform.startswith("linux"):
    raise ImportError(
        f"disttask runs on Linux only for now (it builds on pidfd, memfd and epoll); this is {_sys.platform}"
    )

from ._default import DefaultExecutorError, configure, default_executor
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
from ._tasks import DefaultSubmitter, get_results, options, serialize_task, status, submit

if _TYPE_CHECKING:
    from ._client import Client, ClientSubmitter, ServerRefused, ServerUnproven, ServerUnreachable
    from ._serve import Server
    from ._token import TokenFileError

_LATE = {
    "Client": "_client",
    "ClientSubmitter": "_client",
    "ServerRefused": "_client",
    "ServerUnproven": "_client",
    "ServerUnreachable": "_client",
    "Server": "_serve",
    "TokenFileError": "_token",
}
"""Names that only some programs need: http.client alone would double the time that `import disttask` takes."""


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATE[name]}", __name__), name)


__all__ = [
    "Client",
    "ClientSubmitter",
    "DefaultExecutorError",
    "DefaultSubmitter",
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
    "Server",
    "ServerRefused",
    "ServerUnproven",
    "ServerUnreachable",
    "Submitter",
    "TaskTimeout",
    "TokenFileError",
    "UnknownTask",
    "WorkerCrashed",
    "__version__",
    "configure",
    "default_executor",
    "get_results",
    "options",
    "serialize_task",
    "status",
    "submit",
]
