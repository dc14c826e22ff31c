"""What nobody can call any more, a worker has no more: neither the function nor what it captured."""

import psutil
import pytest

import memory_tasks
from helpers import wait_idle, wait_until
from memory_tasks import MIB

LARGE = 30 * MIB


def own_bytes(pid):
    """Memory that is this process's alone: not what it looked at in the host's."""
    return psutil.Process(pid).memory_full_info().uss


def capturing(data):
    def captive(x):
        return x + data[-1]

    return captive


def submitted(executor, func):
    return executor.submit(func, 1).result(timeout=30)


def mapped(executor, func):
    return next(executor.map(func, [1]))


# What is immutable is loaded once and kept as an object; what is not, as a pickle.
@pytest.mark.parametrize(("kind", "call"), [(bytes, submitted), (bytes, mapped), (bytearray, mapped)])
def test_a_large_closure_takes_the_place_of_the_last_one(make_executor, kind, call):
    executor = make_executor(1)
    [pid] = wait_idle(executor)
    assert call(executor, capturing(kind([1]))) == 2
    before = own_bytes(pid)
    for step in range(6):
        assert call(executor, capturing(kind([step]) * LARGE)) == 1 + step
        grown = own_bytes(pid) - before
        assert grown < 2.5 * LARGE, f"{grown >> 20} MiB after {step + 1} closures of {LARGE >> 20}"
    # None comes after the last one, and the worker has nothing to do.
    wait_until(lambda: own_bytes(pid) - before < LARGE / 3, 20, "memory given back")


@pytest.mark.parametrize("size", [1, LARGE])
def test_an_idle_worker_forgets_a_dead_function(make_executor, size):
    executor = make_executor(1)
    look = executor.submit(memory_tasks.living, "captive").result
    assert look(timeout=10) == 0  # it has this function now: to look again defines none
    func = capturing(bytes([1]) * size)
    assert submitted(executor, func) == 2

    def living():
        return executor.submit(memory_tasks.living, "captive").result(timeout=10)

    assert living() == 1
    for _ in range(3):
        wait_idle(executor)
        assert living() == 1, "it can be called"
    del func
    wait_until(lambda: living() == 0, what="function forgotten")
