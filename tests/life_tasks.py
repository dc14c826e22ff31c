"""Tasks and hooks for tests of how workers begin, live and end. For the workers."""

import atexit
import logging
import os
import random
import time

from tasks import log, wait_for_file

_held = []


def note_at_exit(path):
    atexit.register(log, path, "atexit")


def finalize(path):
    log(path, "finalizer")


def finalize_aloud():
    print("the finalizer", "prints", end="")


def print_and_log():
    print("printed")
    logger = logging.getLogger("life_tasks")
    logger.debug("logged")
    return logger.getEffectiveLevel()


def finalize_wrongly():
    raise ValueError("finalizer went wrong")


def finalize_for_ever():
    time.sleep(3600)


def environment(*names):
    return [os.environ.get(name) for name in names]


def loaded(name):
    import sys

    return name in sys.modules


def draw(seconds):
    """Long enough that each worker takes one."""
    import numpy

    time.sleep(seconds)
    return os.getpid(), random.random(), float(numpy.random.random())


def hold(megabytes):
    """Memory that stays."""
    _held.append(b"x" * (megabytes * 2**20))
    return os.getpid()


def say_and_wait(begun, gate):
    log(begun, "begun")
    wait_for_file(gate)


def put_in_place_of_its_status():
    """The number by which the worker reads its own peak of memory becomes an eventfd's.

    Returns what that has counted, once the worker has found out.
    """

    def numbers():
        names = os.listdir("/proc/self/fd")
        return [int(name) for name in names if _target(name) == f"/proc/{os.getpid()}/status"]

    (number,) = _awaited(numbers)
    counter = os.eventfd(5, os.EFD_NONBLOCK)
    os.dup2(counter, number)
    _awaited(numbers)
    return os.eventfd_read(counter)


def _target(name):
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return None


def _awaited(look, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found
