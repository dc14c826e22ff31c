"""Cases: workers that die, and are replaced."""

import functools
import os
import signal
import time
import warnings

from . import tasks
from .case import Context, assert_usable, case, expect, failure, outcomes, results
from .systems import Hang, Wrong


@case(
    "1",
    "One dead worker fails everything, and the pool with it",
    "`SIGKILL` in one of 8 tasks: the 7 others have results, the pool goes on",
    seen="agronholm/apscheduler#362",
)
def death_of_one(context: Context) -> None:
    pool = context.pool()
    pool.call(tasks.identity, 0)
    found = outcomes(pool, [pool.submit(tasks.die_if, number, 3) for number in range(8)])
    lost = sum(outcome != number for number, outcome in enumerate(found) if number != 3)
    expect(lost, 0, f"{lost} of 7 lost")
    assert_usable(pool)


@case(
    "2",
    "A killed task is waited for for ever",
    "`SIGKILL` in a task: its own future fails within 8 s",
    seen="python/cpython#96062",
)
def fate_of_the_killed(context: Context) -> None:
    pool = context.pool()
    (outcome,) = outcomes(pool, [pool.submit(tasks.die_if, 1, 1)])
    failure(outcome)


@case(
    "6",
    "A dead worker takes a shared lock with it",
    "`SIGKILL` for 10 workers, one after the other, idle or reading 64 MB: tasks have results each time",
    seen="noxdafox/pebble#97",
    slow=True,
)
def death_at_the_queue(context: Context) -> None:
    pool = context.pool()
    large = bytes(64 << 20)
    for number in range(10):
        try:
            pids = results(pool, [pool.submit(tasks.pid, 0.05) for _ in range(4)])
        except Exception as exc:
            raise Wrong(f"{'hangs' if isinstance(exc, Hang) else 'pool broken'} after {number}") from exc
        if number % 2:
            pool.submit(tasks.length, large)
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        time.sleep(0.05)
    assert_usable(pool)


@case(
    "10",
    "Recycling of workers deadlocks",
    "100 tasks, a new worker after every second one: all results, 50 workers",
    seen="python/cpython#115634",
)
def recycling(context: Context) -> None:
    pool = context.pool(recycle_after=2)
    log = context.path("log")
    handles = pool.map(functools.partial(tasks.noted_pid, log), range(100))
    expect(list(handles), list(range(100)))
    runs = context.lines("log")
    expect((len(runs), len(set(runs)) >= 50), (100, True))


@case(
    "18",
    "Which task killed the worker, and how?",
    "a segmentation fault: the error, or an attribute of it, names the function and the signal",
    seen="joblib/joblib#812",
)
def blame(context: Context) -> None:
    pool = context.pool()
    (outcome,) = outcomes(pool, [pool.submit(tasks.break_segment)])
    exc = failure(outcome)
    text = f"{exc} {vars(exc)} {exc.__cause__ or ''}"
    has_signal = any(name in text for name in ("SIGSEGV", "signal 11", "-11"))
    missing = [what for what, there in [("function", "break_segment" in text), ("signal", has_signal)] if not there]
    if missing:
        raise Wrong(f"no {', no '.join(missing)}")


@case(
    "18",
    "A poison task kills worker after worker",
    "with 10 retries, and a task that kills each worker: given up after three deaths; the pool goes on",
    seen="It4innovations/hyperqueue#306",
)
def poison(context: Context) -> None:
    pool = context.pool()
    handle = pool.submit_retried(10, ConnectionError, tasks.always_dies, context.path("log"))
    failure(outcomes(pool, [handle])[0])
    expect(len(context.lines("log")), 3)
    assert_usable(pool)


@case(
    "19",
    "Warnings of leaks that are none",
    "workers keep 350 MB for 3 s: results, and no warning",
    seen="joblib/joblib#883",
    slow=True,
)
def kept_memory(context: Context) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool = context.pool()
        found = results(pool, [pool.submit(tasks.keep, 350) for _ in range(16)])
    expect(found, [350] * 16)
    if caught:
        raise Wrong(caught[0].category.__name__) from Wrong(str(caught[0].message))
