"""What a host tells a new worker, and what the worker must say of itself."""

from __future__ import annotations

import os
import sys
from _pickle import dumps, loads

from . import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; _disttask_worker = 1; import disttask._lean; "
    "from disttask._worker import main; main()"
)
"""The worker's program. It sets the host's module path first, so that it finds this very disttask. The name tells the
package that it is in a worker, where it is to import little."""

_NOT_PASSED_ON = frozenset({"hash_randomization", "int_max_str_digits"})
"""Of `sys.flags`: what is set without being asked for. `subprocess` makes no argument of them, either."""

_SECRETS = frozenset({"DISTTASK_TOKEN"})

NO_PIDFD = "DISTTASK_NO_PIDFD"
"""Environment variable: do without pidfds, as on a kernel before 5.3. For testing the fallback."""

NO_MEMFD = "DISTTASK_NO_MEMFD"
"""Environment variable: do without memfds, as under a seccomp profile that forbids them."""

_in_worker = False

nesting: tuple[_native.Nest, tuple[str, int]] | None = None
"""In a worker: through what tasks submit tasks, and the pool's name and number of workers."""

depth = 0
"""How many workers of workers this process is: 0 in a program, 1 in its workers, 2 in those that they start."""

context: list[tuple[str, str]] = []
"""In a worker: the context variables that go along with a task, by module and name."""


def in_worker() -> bool:
    """Whether this process is a worker."""
    return _in_worker


def enter_worker(nest: _native.Nest, pool: tuple[str, int], its_depth: int) -> None:
    """Called by the worker's program."""
    global _in_worker, nesting, depth  # noqa: PLW0603
    _in_worker = True
    nesting = nest, pool
    depth = its_depth


def worker_args() -> list[str]:
    """The interpreter's arguments: the host's own flags (``-O``, ``-W``, ``-X`` …), then the program."""
    flags = _interpreter_flags()
    path = [entry for entry in sys.path if isinstance(entry, str)]  # Python itself ignores the others
    return [*flags, "-c", _BOOTSTRAP.format(path=path)]


def _interpreter_flags() -> list[str]:
    set_here = {name for name in sys.flags.__match_args__ if getattr(sys.flags, name)} - _NOT_PASSED_ON
    if set_here <= {"dont_write_bytecode"} and not sys.warnoptions and not sys._xoptions:  # what is usual
        return ["-B"] if set_here else []
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]  # 5 ms; multiprocessing's, too

    flags: list[str] = _args_from_interpreter_flags()
    return flags


def worker_env() -> list[tuple[str, str]]:
    """The environment as it is now, without secrets that a task has no business with."""
    return [(name, value) for name, value in os.environ.items() if name not in _SECRETS]


UNFIT = b"unfit\n"
"""Begins what a worker says of itself when it cannot be made ready (see `src/pool/greeting.rs`); then come a line that
says what failed, and why."""


def worker_config(**told: Any) -> bytes:
    """Sent to each worker before anything else."""
    return dumps({"argv": sys.argv, "depth": depth + 1, **told}, 5)


def read_config(data: bytes) -> dict[str, Any]:
    """The other end of `worker_config`."""
    config: dict[str, Any] = loads(data)
    return config


def hello() -> bytes:
    """What both sides must agree on: pickles and frames of another version are not understood."""
    build = "abi3" if _native.ABI3 else "native"
    version = "{}.{}.{}".format(*sys.version_info[:3])
    return f"disttask {_native.__version__} ({build}) on {sys.implementation.name} {version}".encode()
