"""What keeps a future alive, and what it keeps alive: values, exceptions, cycles, the garbage collector's view."""

import concurrent.futures as cf
import gc
import weakref

import pytest

from helpers import wait_until
from tasks import fail


class Big(bytearray):
    """Something large that can be referred to weakly."""


@pytest.mark.parametrize("observed", [False, True])
def test_a_dropped_future_frees_its_value(executor, observed):
    gc.collect()
    gc.disable()
    try:
        future = executor.submit(Big, 10**6)
        if observed:
            cf.wait([future], timeout=10)
        value = weakref.ref(future.result(timeout=10))
        gone = weakref.ref(future)
        del future
        wait_until(lambda: value() is None and gone() is None, 5, "value freed without a collection")
    finally:
        gc.enable()


class Weak(Exception):
    """An exception that can be referred to weakly."""


@pytest.mark.parametrize("observed", [False, True])
def test_a_raised_exception_is_freed_with_its_future(executor, observed):
    gc.collect()
    gc.disable()
    try:
        future = executor.submit(fail, Weak)
        if observed:
            cf.wait([future], timeout=10)
        try:
            future.result(timeout=10)
        except Weak as exc:
            error = weakref.ref(exc)
        gone = weakref.ref(future)
        del future
        wait_until(lambda: error() is None and gone() is None, 5, "exception freed without a collection")
    finally:
        gc.enable()


def test_the_collector_leaves_out_what_is_only_waited_for(held):
    """Else each full collection would walk a million of them."""
    executor, release = held
    futures = [executor.submit(int, 7) for _ in range(4)]
    assert not any(map(gc.is_tracked, futures))
    futures[1].label = []
    futures[2].add_done_callback(id)
    assert [gc.is_tracked(future) for future in futures] == [False, True, True, False]
    release()
    assert [future.result(timeout=10) for future in futures] == [7] * 4
    assert [gc.is_tracked(future) for future in futures] == [False, True, True, False]


def refer_by_attribute(future):
    future.label = [future]


def refer_by_callback(future):
    future.add_done_callback(lambda _: future)


def refer_by_value(future):
    future.result(timeout=10).append(future)


def refer_by_exception(future):
    future.exception(timeout=10).seen = future


@pytest.mark.parametrize(
    ("task", "refer"),
    [
        ([list], refer_by_attribute),
        ([list], refer_by_callback),
        ([list], refer_by_value),
        ([fail, Weak], refer_by_exception),
    ],
)
def test_a_cycle_through_a_future_is_collected(executor, task, refer):
    future = executor.submit(*task)
    assert not gc.is_tracked(future)
    refer(future)
    future.exception(timeout=10)
    gone = weakref.ref(future)
    del future
    wait_until(lambda: gc.collect() >= 0 and gone() is None, 5, "the cycle is collected")


@pytest.mark.parametrize("refer", [refer_by_attribute, refer_by_callback])
def test_a_cycle_through_a_future_that_has_to_wait_is_collected(held, refer):
    executor, release = held
    future = executor.submit(list)
    refer(future)
    gone = weakref.ref(future)
    del future
    release()
    wait_until(lambda: gc.collect() >= 0 and gone() is None, 5, "the cycle is collected")
