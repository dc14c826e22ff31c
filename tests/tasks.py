"""Functions for the workers. They import little, so that a worker loads them at once."""

import ctypes
import functools
import os
import pickle
import signal
import threading
import time
from pathlib import Path


def add(a, b=1):
    return a + b


def sleep(seconds, value=None):
    time.sleep(seconds)
    return value


def log(path, line):
    """One line, appended whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def logged_sleep(path, line, seconds):
    log(path, line)
    time.sleep(seconds)
    return line


def die_then_raise(path):
    """The first time it ends its worker."""
    log(path, "run")
    if len(lines(path)) == 1:
        os._exit(7)
    raise ValueError("now")


def lines(path):
    path = Path(path)
    return path.read_text().splitlines() if path.exists() else []


def wait_for_file(path, value=None):
    """Hold a worker until somebody makes this file."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return value


def meet(folder, number):
    """Returns once the other one of its pair runs, too."""
    (Path(folder) / str(number)).touch()
    return wait_for_file(Path(folder) / str(number ^ 1), number)


def fail(kind, *args):
    raise kind(*args)


def pid_of_worker(*_):
    return os.getpid()


def fail_once(path, how):
    """Die as `how` says when called for the first time, answer later."""
    log(path, "run")
    if len(lines(path)) == 1:
        DEATHS[how]()
    return "survived"


def make_bytes(count):
    return bytes(count)


def make_text(count, letter):
    return letter * count


# --- ways to die -----------------------------------------------------------------------------------


def exit_seven():
    os._exit(7)


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def stack_overflow():
    """A real one, in C: how deep Python code must go for it differs from version to version."""
    import faulthandler

    faulthandler._stack_overflow()


DEATHS = {
    "exit": exit_seven,
    "kill": kill_myself,
    "segfault": segfault,
    "abort": abort,
    "overflow": stack_overflow,
}


# --- other mischief --------------------------------------------------------------------------------


def close_low_fds():
    os.closerange(0, 51)
    return "closed"


def close_low_fds_and_reuse():
    """What is opened afterwards gets the numbers that were closed."""
    os.closerange(0, 51)
    files = [open("/dev/zero", "rb") for _ in range(60)]  # noqa: SIM115
    time.sleep(0.5)
    return len(files)


def close_all_fds():
    os.closerange(0, 65536)
    time.sleep(60)


def flood(fd, megabytes):
    chunk = b"x" * 65535 + b"\n"
    for _ in range(megabytes * 16):
        written = 0
        while written < len(chunk):
            written += os.write(fd, chunk[written:])
    return megabytes


def fork_and_return():
    """Both come back; only the parent's answer may count."""
    pid = os.fork()
    return "parent" if pid else "child"


def leave_a_child(path):
    """End, and leave a child in a session of its own behind."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log(path, os.getpid())
        time.sleep(3600)
    while not lines(path):
        time.sleep(0.001)
    os._exit(7)


def leave_daemon_threads(count):
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return count


def spin():
    while True:
        pass


def hold_the_gil(seconds):
    """A C call that keeps the GIL: `PyDLL` does not let go of it."""
    return ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def hide_in_another_group():
    """Leave the process group that a kill of the group would reach, then hang."""
    os.setpgid(0, os.getpgid(os.getppid()))
    time.sleep(3600)


def start_grandchild(path):
    """Start a process, write down its pid, and hang."""
    import subprocess

    child = subprocess.Popen(["sleep", "3600"])
    Path(path).write_text(str(child.pid))
    time.sleep(3600)


def print_much(count):
    print("x" * count)


def write_lines(count):
    for line in range(count):
        os.write(2, b"%09d\n" % line)


@functools.cache
def pattern(length, salt):
    """Bytes that tell torn ones; made once, so that a task hardly does more than pass them."""
    return (bytes(range(salt, salt + 241)) * (length // 241 + 1))[:length]


def patterned(length, salt):
    return pickle.PickleBuffer(pattern(length, salt))


def echo(buffer):
    """All of it again: in a ring, or in an arena, each way."""
    return pickle.PickleBuffer(buffer)


def burn(seconds):
    """Use so much processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Kept(list):
    """A list that can be told from others."""


def same(value):
    return value


def double(value):
    return 2 * value


def inverse_of_distance(number, point):
    return 1 / (number - point)


def exit_at(number, point):
    if number == point:
        os._exit(9)
    return number


def make_lock(_):
    return threading.Lock()


def wait_or_count(gate, _count, path):
    """Wait for the file, if one is named; else leave a line."""
    if gate:
        wait_for_file(gate)
    else:
        log(path, 1)


def sum_and_return(array):
    return float(array.sum()), array


def sum_of(array):
    return float(array.sum())


def sums(arrays):
    return [float(array.sum()) for array in arrays]


def write_into(array):
    array[0] = -1
    return float(array[0])


def array_filled(length, value):
    import numpy as np

    return np.full(length, float(value))


_all = []


def keep_all(array):
    """As a cache without a bound."""
    _all.append(array)


def let_go():
    """How many `keep_all` has kept; none from here on."""
    kept = len(_all)
    _all.clear()
    return kept


def second_of(_array, seconds):
    time.sleep(seconds)
    return seconds


def keep(array):
    global _kept
    _kept = array


def kept_is_all(value):
    return bool((_kept == value).all())


def write_and_die_once(array, path):
    first = float(array[0])
    array[:] = 1
    if not os.path.exists(path):
        log(path, 1)
        os._exit(3)
    return first


def is_readonly(data):
    return memoryview(data).readonly


def push(items):
    items.append(1)
    return len(items)


_buffer = [0]


def reused_buffer(number):
    _buffer[0] = number
    return _buffer


class _ExitsWhenPickled:
    def __reduce__(self):
        raise SystemExit(3)


def exits_when_pickled(number):
    return _ExitsWhenPickled() if number == 3 else number


def run_twice(path):
    log(path, 1)
    return bytes(1_000_000)


def wait_or_value(gate, value):
    """Wait for the file, if one is named, and return the value."""
    if gate:
        wait_for_file(gate)
    return value


class Thing:
    """Something that can be watched."""

    def __init__(self, data=b""):
        self.data = data


def make_thing(number):
    return Thing(number)


def watch(thing, path):
    """Leave a line when the argument is freed."""
    import weakref

    weakref.finalize(thing, log, path, "freed")
    return len(lines(path))


def watch_and_fail(thing, path):
    watch(thing, path)
    raise ValueError(thing)


def sleep_or_count(seconds):
    """Take long, or some microseconds."""
    if seconds:
        time.sleep(seconds)
    sum(range(300))
    return os.getpid()


class Loaded:
    """Large, and tells whoever unpickles it; see `on_load`."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _loaded, (self.number, bytes(100_000))


on_load = None
"""What unpickling a `Loaded` calls in this process."""


def _loaded(number, _data):
    if on_load is not None:
        on_load()
    return number


def hold_memory(size):
    held = b"x" * size
    time.sleep(3600)
    return len(held)
