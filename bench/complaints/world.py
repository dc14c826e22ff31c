"""Cases: what workers know of the world around them, and what comes back besides results."""

import contextlib
import io
import logging
import os
import random
import sys
import warnings

from . import tasks
from .case import Context, case, expect, outcomes, results
from .systems import Skip, Wrong


@case(
    "16",
    "What tasks print does not reach a notebook's cell",
    "`print` in a task: it is on the `sys.stdout` that the host has by then, as a notebook's cell or a test has it",
    seen="ipython/ipykernel#402",
)
def printed(context: Context) -> None:
    pool = context.pool()
    pool.call(tasks.identity, 0)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        pool.call(tasks.say, "hello")
    expect(out.getvalue(), "hello\n", "not there")


@case(
    "16",
    "Output cannot be told apart by task",
    "two tasks print at a time: each one's output, by its future",
    seen="joblib/loky#306",
)
def output_by_task(context: Context) -> None:
    pool = context.pool()
    handles = [pool.submit(tasks.say, text) for text in ("one", "two")]
    results(pool, handles)
    expect([pool.output(handle) for handle in handles], ["one\n", "two\n"])


@case(
    "16",
    "Logging is not set up in workers",
    "`basicConfig` in the host before it makes the pool: a task's record is in the file",
    seen="joblib/joblib#1017",
)
def logged(context: Context) -> None:
    logging.basicConfig(filename=context.path("log"), format="%(name)s %(message)s", level=logging.INFO)
    pool = context.pool()
    pool.call(tasks.log, "hello")
    expect(context.lines("log"), ["app hello"], "not there")


@case(
    "22",
    "Processors are miscounted",
    "a host that may use one processor: one worker by default",
    seen="joblib/loky#634",
)
def processors(context: Context) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    workers = context.kind.default_workers()
    expect(workers, 1, f"{workers} workers")


@case(
    "22",
    "Numerical libraries oversubscribe",
    "NumPy in as many workers as processors, with no setting: one thread in each",
    seen="https://joblib.readthedocs.io/en/stable/parallel.html#avoiding-over-subscription-of-cpu-resources",
)
def oversubscription(context: Context) -> None:
    processors = len(os.sched_getaffinity(0))
    if processors == 1:
        raise Skip("one processor")
    threads = 1 + context.pool(processors).call(tasks.blas_threads)
    expect(threads, 1, f"{threads} threads each")


@case(
    "23",
    "Workers do not have the environment",
    "a variable and a `sys.path` that were set before the pool was made: a task sees both",
    seen="joblib/joblib#1591",
)
def environment(context: Context) -> None:
    (context.folder / "late_module.py").write_text("VALUE = 'late'\n")
    os.environ["COMPLAINTS_VARIABLE"] = "set"
    sys.path.append(str(context.folder))
    pool = context.pool()
    expect(pool.call(tasks.variable, "COMPLAINTS_VARIABLE"), "set")
    expect(pool.call(tasks.import_late, "late_module"), "late")


@case(
    "23",
    "Warning filters do not reach workers",
    'a filter `"error"` that was set before the pool was made: a task that warns fails with that warning',
    seen="joblib/joblib#1591",
)
def warning_filters(context: Context) -> None:
    warnings.simplefilter("error", tasks.Alarm)
    pool = context.pool()
    (outcome,) = outcomes(pool, [pool.submit(tasks.warn)])
    if not isinstance(outcome, tasks.Alarm):
        raise Wrong("not there") from outcome if isinstance(outcome, Exception) else None


@case(
    "23",
    "Context variables do not reach tasks",
    "a variable that is set twice, each time before a `submit`: each task sees its value",
    seen="joblib/joblib#1591",
)
def context_variables(context: Context) -> None:
    pool = context.pool(context=(tasks.language,))
    found = []
    for value in ("fi", "sv"):
        tasks.language.set(value)
        found.append(pool.call(tasks.speak))
    expect(found, ["fi", "sv"])


@case(
    "23",
    "Random numbers are the same in all workers",
    "`numpy.random` seeded in the host: the first draws of two workers differ",
    seen="numpy/numpy#9650",
)
def seeds(context: Context) -> None:
    import numpy as np

    np.random.seed(0)
    random.seed(0)
    pool = context.pool()
    first: dict[int, float] = {}
    for pid, draw in results(pool, [pool.submit(tasks.drawn, 0.2) for _ in range(4)]):
        first.setdefault(pid, draw)
    expect(len(first), 2)
    expect(len(set(first.values())), 2, "the same draws")


@case(
    "also",
    "No initializer",
    "each of two workers has run it before its first task",
    seen="joblib/joblib#381",
)
def initializer(context: Context) -> None:
    pool = context.pool(initializer=tasks.set_up)
    expect(results(pool, [pool.submit(tasks.state) for _ in range(8)]), [["set up"]] * 8)
