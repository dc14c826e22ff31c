"""What the cases have done in workers. Imports little, as spawned workers load it."""

import ctypes
import logging
import os
import re
import signal
import threading
import time
import warnings
from contextvars import ContextVar
from typing import Any

held: list[Any] = []


def identity(number: int) -> int:
    """The least task."""
    return number


def note(path: str, line: object = "") -> None:
    """Append one line."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def noted(path: str, number: int) -> int:
    """Leave a trace of having run."""
    note(path, number)
    return number


def noted_slowly(path: str, number: int) -> int:
    """Leave a trace of having run to the end."""
    time.sleep(0.001)
    note(path, number)
    return number


def noted_pid(path: str, number: int) -> int:
    """Leave a trace of which worker has run it."""
    note(path, os.getpid())
    return number


def sleep(seconds: float, path: str = "") -> float:
    """Hold a worker; tell by a file that it has begun."""
    if path:
        note(path)
    time.sleep(seconds)
    return seconds


def wait_for(path: str, begun: str) -> None:
    """Hold a worker until there is such a file."""
    note(begun)
    while not os.path.exists(path):
        time.sleep(0.005)


def die_if(number: int, bad: int) -> int:
    """Be killed as the kernel kills whoever takes too much memory."""
    time.sleep(0.1)
    if number == bad:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_dies(path: str) -> None:
    """A poison task."""
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)


def break_segment() -> None:
    """A bug in C code."""
    ctypes.string_at(0)


def pid(seconds: float = 0.0) -> int:
    """Which worker it is."""
    time.sleep(seconds)
    return os.getpid()


def spin(begun: str = "") -> None:
    """Python code that never ends."""
    if begun:
        note(begun)
    while True:
        pass


def backtrack() -> None:
    """C code that never ends, and keeps the GIL."""
    re.match(r"(a+)+$", "a" * 60 + "b")


class Awkward(Exception):
    """Pickles, and cannot be unpickled."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} {right}")


def raise_awkward() -> None:
    """As many libraries' exceptions are."""
    raise Awkward(1, 2)


def raise_with_cause() -> None:
    """An exception with the one behind it."""
    try:
        raise KeyError("inner")
    except KeyError as exc:
        raise ValueError("outer") from exc


def fail_twice(path: str) -> str:
    """Fail, fail, answer."""
    note(path)
    with open(path) as lines:
        if len(lines.readlines()) < 3:
            raise ConnectionError("not yet")
    return "answer"


def lock() -> object:
    """What cannot be pickled."""
    return threading.Lock()


def length(data: bytes) -> int:
    """Of a large argument."""
    return len(data)


def total(array: Any) -> float:
    """Read all of a large argument."""
    return float(array.sum())


def say(text: str) -> None:
    """On the standard output."""
    print(text, flush=True)


def log(text: str) -> None:
    """To a logger that only the host has set up."""
    logging.getLogger("app").info(text)


class Alarm(UserWarning):
    """A warning that some want as an error."""


def warn() -> str:
    """Warn of something."""
    warnings.warn("look", Alarm, stacklevel=1)
    return "only a warning"


language: ContextVar[str] = ContextVar("language", default="none")


def speak() -> str:
    """A value that the submitting code has set."""
    return language.get()


def keep(megabytes: int) -> int:
    """A cache that a worker holds on purpose."""
    if not held:
        held.append(bytearray(b"x") * (megabytes << 20))
    time.sleep(0.3)
    return megabytes


def set_up() -> None:
    """An initializer."""
    held.append("set up")


def state() -> list[Any]:
    """What the initializer has left."""
    return list(held)


def blas_threads(*_: object) -> int:
    """How many threads a numerical library adds to a worker. What else there is does not matter."""
    before = len(os.listdir("/proc/self/task"))
    import numpy as np

    matrix = np.ones((500, 500))
    assert (matrix @ matrix)[0, 0] == 500
    return len(os.listdir("/proc/self/task")) - before


def drawn(seconds: float) -> tuple[int, float]:
    """Which worker, and a number of the global generator, as most code has it."""
    import numpy as np

    time.sleep(seconds)
    return os.getpid(), float(np.random.random())


def variable(name: str) -> str | None:
    """Of the environment."""
    return os.environ.get(name)


def import_late(name: str) -> str:
    """A module that `sys.path` has not always led to."""
    import importlib

    return str(importlib.import_module(name).VALUE)


def inner_pool(system: str) -> int:
    """A pool in a task."""
    from .peers import SYSTEMS

    return int(SYSTEMS[system](1).call(identity, 7))


def submits(pool: Any, depth: int) -> int:
    """A task that gives its own pool a task, and waits for it."""
    return 0 if depth == 0 else 1 + int(pool.submit(submits, pool, depth - 1).result(timeout=60))


pool_here: Any = None
"""The pool that forked workers find."""


def submits_here(depth: int) -> int:
    """The same, where the pool cannot be an argument."""
    return 0 if depth == 0 else 1 + int(pool_here.result(pool_here.submit(submits_here, depth - 1), 60))


def attach(name: str) -> int:
    """Use shared memory that the host has made."""
    from multiprocessing.shared_memory import SharedMemory

    memory = SharedMemory(name)
    assert memory.buf is not None
    value = int(memory.buf[0])
    memory.close()
    return value


class Counted:
    """A callable that says how often it was pickled, in this process."""

    pickled = 0

    def __reduce__(self) -> tuple[type, tuple[()]]:
        Counted.pickled += 1
        return Counted, ()

    def __call__(self, number: int) -> int:
        """The least task."""
        return number
