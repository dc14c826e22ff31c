"""Functions for the workers of `test_soft_timeout`."""

import concurrent.futures
import os
import signal
import threading
import time

import disttask
from disttask import _native
from tasks import log


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def spin_for(seconds, value=None):
    """Python code for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return value


def partial(limit=10**12):
    """How far it has come. Not by `while`, whose end CPython 3.13.0 takes for the outside of the `try`."""
    count = 0
    try:
        for count in range(1, limit + 1):  # noqa: B007 - it is returned
            pass
    except disttask.SoftTimeout as exc:
        return count, str(exc)
    return count, ""


def clean_up(path):
    try:
        time.sleep(60)
    finally:
        log(path, "cleaned up")


def stubborn(path):
    """Goes on whatever comes."""
    while True:
        try:
            time.sleep(60)
        except disttask.SoftTimeout:
            log(path, "told")


def logged(path, seconds):
    log(path, os.getpid())
    time.sleep(seconds)


def wait_inside(seconds, how):
    """Wait for a nested task, and say which exception came."""
    future = disttask.submit(time.sleep, seconds)
    try:
        if how == "result":
            future.result()
        elif how == "exception":
            return repr(future.exception())
        else:
            concurrent.futures.wait([future])
            return f"waited: {future.exception()!r}"
    except disttask.SoftTimeout as exc:
        return f"told: {exc}"
    return "nothing came"


def fork_and_outlive(path):
    """The child goes on after its parent's time is over."""
    if os.fork() == 0:
        spin_for(0.6)
        log(path, "child went on")
        os._exit(0)
    try:
        time.sleep(60)
    finally:
        os.wait()


def disturbed(seconds):
    """Nobody has armed anything: the bare signal means nothing."""
    end = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end:
        signal.pthread_kill(threading.get_ident(), _native.soft_signal())
        count += 1
    return count


def log_for(seconds):
    """Nearly all of its time goes by inside `logging`."""
    import logging

    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            logging.getLogger("soft").warning("at work")
    except disttask.SoftTimeout:
        return "told"
    return "not told"
