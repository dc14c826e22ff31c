"""Cases: how a call is made, ended, and answered."""

import contextlib
import io
import itertools
import time
from collections.abc import Callable

from . import tasks
from .case import Context, assert_usable, case, expect, failure, outcomes, results
from .systems import Wrong

ROUNDS, QUEUED = 10, 20
"""Of cancelling, and tasks in each."""


def end_by_time_out(context: Context, endless: Callable[[], None]) -> None:
    pool = context.pool(1)
    pool.call(tasks.identity, 0)
    failure(outcomes(pool, [pool.submit_limited(0.5, endless)])[0])
    assert_usable(pool)


@case(
    "3",
    "No time-out per task",
    "`while True: pass` with a limit of 0.5 s: it ends, and its worker's place takes the next task",
    seen="joblib/joblib#522",
)
def time_out_in_python(context: Context) -> None:
    end_by_time_out(context, tasks.spin)


@case(
    "3",
    "A time limit cannot end C code",
    "the same with a regular expression that keeps the GIL",
    seen="Bogdanp/dramatiq#211",
)
def time_out_in_c(context: Context) -> None:
    end_by_time_out(context, tasks.backtrack)


@case(
    "3",
    "No retries",
    "a task that fails twice with the exception named: it has a result",
    seen="joblib/joblib#1249",
)
def retries(context: Context) -> None:
    pool = context.pool()
    expect(pool.result(pool.submit_retried(3, ConnectionError, tasks.fail_twice, context.path("log"))), "answer")


@case(
    "4",
    "What runs cannot be cancelled",
    "an endless task is stopped by its future: its worker's place takes the next task",
    seen="joblib/loky#176",
)
def stop_running(context: Context) -> None:
    pool = context.pool(1)
    handle = pool.submit(tasks.spin, context.path("begun"))
    context.wait_lines("begun")
    pool.stop(handle)
    assert_usable(pool)


@case(
    "5",
    "A cancelled task runs all the same",
    f"{ROUNDS} rounds of {QUEUED} tasks that wait behind one that runs until all are cancelled: some say that they "
    "are, and none of those runs",
    seen="noxdafox/pebble#144",
)
def cancelled_stays_cancelled(context: Context) -> None:
    pool = context.pool(1)
    for number in range(ROUNDS):
        gate, begun, log = (context.path(f"{what}{number}") for what in ("gate", "begun", "log"))
        blocker = pool.submit(tasks.wait_for, gate, begun)
        handles = [pool.submit(tasks.noted, log, item) for item in range(QUEUED)]
        context.wait_lines(f"begun{number}")
        cancelled = {str(item) for item, handle in enumerate(handles) if pool.cancel(handle)}
        if not cancelled:
            raise Wrong("nothing was cancelled")
        tasks.note(gate)
        results(pool, [blocker])
        assert_usable(pool)
        both = cancelled & set(context.lines(f"log{number}"))
        if both:
            raise Wrong(f"{len(both)} of {len(cancelled)} have run")


@case(
    "5",
    "Cancelling races with starting",
    f"{ROUNDS} rounds of {QUEUED} tasks that are cancelled while a worker takes them: none has run to its end that "
    "says it is cancelled",
    seen="noxdafox/pebble#33",
)
def cancelled_on_the_way(context: Context) -> None:
    pool = context.pool(1)
    said = 0
    for number in range(ROUNDS):
        gate, begun, log = (context.path(f"{what}{number}") for what in ("gate", "begun", "log"))
        pool.submit(tasks.wait_for, gate, begun)
        handles = [pool.submit(tasks.noted_slowly, log, item) for item in range(QUEUED)]
        context.wait_lines(f"begun{number}")
        tasks.note(gate)
        cancelled = set()
        for item, handle in reversed([*enumerate(handles)]):
            if pool.cancel(handle):
                cancelled.add(str(item))
            time.sleep(0.001)
        assert_usable(pool)
        both = cancelled & set(context.lines(f"log{number}"))
        if both:
            raise Wrong(f"{len(both)} of {len(cancelled)} have run")
        said += len(cancelled)
    if not said:
        raise Wrong("nothing was cancelled")


@case(
    "7",
    "An exception that does not unpickle breaks the pool",
    "a task raises one: its future fails, others have results, the pool goes on",
    seen="python/cpython#120810",
)
def awkward_exception(context: Context) -> None:
    pool = context.pool()
    handles = [pool.submit(tasks.identity, 1), pool.submit(tasks.raise_awkward), pool.submit(tasks.identity, 2)]
    one, failed, two = outcomes(pool, handles)
    failure(failed)
    assert_usable(pool)
    expect((one, two), (1, 2))


@case(
    "8",
    "A result that does not pickle hangs",
    "a task returns a lock: its future fails, the pool goes on",
    seen="https://github.com/sybrenjansen/mpire/blob/master/docs/troubleshooting.rst",
)
def unpicklable_result(context: Context) -> None:
    pool = context.pool()
    failure(outcomes(pool, [pool.submit(tasks.lock)])[0])
    assert_usable(pool)


@case(
    "9",
    "`map` swallows its whole input first",
    "five results of an endless input",
    seen="python/cpython#74028",
)
def endless_input(context: Context) -> None:
    found = context.pool().map(tasks.identity, itertools.count())
    expect([next(found) for _ in range(5)], [0, 1, 2, 3, 4])


@case(
    "17",
    "Progress needs a patched tqdm",
    "20 items of a `map` with the pool's own bar: results, and a bar that ends at 20/20",
    seen="joblib/joblib#1063",
)
def progress(context: Context) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as err:
        found = list(context.pool().map_with_bar(tasks.identity, range(20)))
    expect(found, list(range(20)))
    expect("20/20" in err.getvalue(), True, "no bar")


@case(
    "24", "No pool inside a task", "a task makes a pool of the same kind, and has its result", seen="noxdafox/pebble#76"
)
def inner_pool(context: Context) -> None:
    expect(context.pool(nesting=True).call(tasks.inner_pool, context.system), 7)


@case(
    "24",
    "A task that submits to its own pool deadlocks",
    "20 deep, each waits for the next, with one worker: the outermost has a result",
    seen="https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor",
)
def nested_submit(context: Context) -> None:
    expect(context.pool(1).nested(20), 20)


@case(
    "also",
    "No priorities",
    "of 5 queued tasks, the one that was given a higher priority runs first",
    seen="joblib/loky#292",
)
def priority(context: Context) -> None:
    pool = context.pool(1)
    log, gate = context.path("log"), context.path("gate")
    pool.submit(tasks.wait_for, gate, context.path("begun"))
    handles = [pool.submit(tasks.noted, log, number) for number in range(4)]
    handles.append(pool.submit_first(tasks.noted, log, 99))
    context.wait_lines("begun")
    tasks.note(gate)
    results(pool, handles)
    expect(context.lines("log")[0], "99")


@case(
    "also",
    "An exception loses its `__cause__`",
    "a `ValueError` raised from a `KeyError`: that is found in its chain",
    seen="joblib/joblib#1369",
)
def cause(context: Context) -> None:
    pool = context.pool()
    (outcome,) = outcomes(pool, [pool.submit(tasks.raise_with_cause)])
    behind: BaseException | None = failure(outcome)
    if not isinstance(behind, ValueError):
        raise Wrong(type(behind).__name__) from behind
    while behind is not None and not isinstance(behind, KeyError):
        behind = behind.__cause__ or behind.__context__
    if behind is None:
        raise Wrong("lost")
