"""Functions for the workers of `test_max_memory` and `test_forgotten`."""

import gc
import itertools
import time
import types

import disttask
from tasks import log

MIB = 2**20

_kept = []


def grow(mebibytes, path=None, line="grow"):
    """Take so much, step by step; about 200 MiB in a second."""
    if path is not None:
        log(path, line)
    held = []
    for _ in range(mebibytes // 4):
        held.append(bytearray(b"x") * (4 * MIB))  # written to: zeros would take no memory
        time.sleep(0.02)
    time.sleep(0.3)  # to be seen with all of it
    return len(held) * 4


def grow_in_c(count):
    """In one call that never lets go of the GIL."""
    return len(list(itertools.islice(itertools.count(10**6), count)))


def keep(mebibytes):
    """As a cache does."""
    _kept.append(bytearray(b"x") * (mebibytes * MIB))
    return mebibytes


def replace(mebibytes):
    """What was kept, by as much."""
    _kept.clear()
    return grow(mebibytes)


def touch_twice(array):
    """An argument in shared memory, from end to end."""
    array += 1
    time.sleep(0.3)
    return int(array[-1])


def submit_nested():
    """Whether the option is refused there, and where a nested task's memory counts."""
    try:
        disttask.options(max_memory=MIB).submit(abs, 1)
    except ValueError as exc:
        return str(exc)
    return "accepted"


def grow_nested(mebibytes):
    """By a task that it waits for, and runs itself."""
    return disttask.submit(grow, mebibytes).result()


def living(name):
    """How many functions of this name there are in this process."""
    return sum(type(obj) is types.FunctionType and obj.__name__ == name for obj in gc.get_objects())
