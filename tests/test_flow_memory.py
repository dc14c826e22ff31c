"""Large results that are taken one by one, and what a worker keeps of its arguments. `DISTTASK_FULL=1`: all."""

import os
import resource

import pytest

import tasks
from helpers import wait_until

TASKS = 100_000 if os.environ.get("DISTTASK_FULL") else 1500
RESULT_BYTES = 1_000_000
WARM = 300
"""Tasks after which memory is as it will be: arenas have their size, and the allocator its pages."""
MAX_GROWTH = 128 * 2**20
"""A tenth of what 1,200 results take; some 40 MiB are those that wait for their turn, the rest is the allocator's."""


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def by_map(executor):
    return executor.map(tasks.make_text, [RESULT_BYTES] * TASKS, "ab" * (TASKS // 2))


def by_map_of_single_tasks(executor):
    return executor.map(tasks.make_text, [RESULT_BYTES] * TASKS, "ab" * (TASKS // 2), chunksize=1)


def by_map_unordered(executor):
    return executor.map_unordered(tasks.make_text, [RESULT_BYTES] * TASKS, "ab" * (TASKS // 2), buffersize=20)


def by_submit(executor):
    window = [executor.submit(tasks.make_text, RESULT_BYTES, "a") for _ in range(8)]
    for number in range(TASKS):
        yield window.pop(0).result()
        if number < TASKS - 8:
            window.append(executor.submit(tasks.make_text, RESULT_BYTES, "b"))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", [by_map, by_map_of_single_tasks, by_map_unordered, by_submit])
def test_results_that_are_taken_one_by_one_leave_nothing(executor, way):
    before = most = count = 0
    for text in way(executor):
        assert len(text) == RESULT_BYTES
        count += 1
        if count == WARM:
            before = resident()
        elif count > WARM and count % 50 == 0:
            most = max(most, resident())
    assert count == TASKS
    print(f"{way.__name__}: {count} results of {RESULT_BYTES} bytes, {(most - before) / 2**20:.0f} MiB grown")
    assert most - before < MAX_GROWTH


@pytest.mark.parametrize("size", [1, 100_000, 10_000_000])
@pytest.mark.parametrize("task", [tasks.watch, tasks.watch_and_fail])
def test_an_argument_is_freed_when_its_task_is_done(make_executor, tmp_path, size, task):
    """Without another task that would push it out."""
    executor = make_executor(1)
    log = str(tmp_path / "log")
    future = executor.submit(task, tasks.Thing(bytes(size)), log)
    future.exception(timeout=20)
    wait_until(lambda: tasks.lines(log) == ["freed"], 5, "freed by an idle worker")
    list(executor.map(task, [tasks.Thing(bytes(size))], [log], chunksize=1, return_exceptions=True))
    wait_until(lambda: tasks.lines(log) == ["freed"] * 2, 5, "freed after map")


def test_an_argument_is_freed_before_the_next_task_runs(make_executor, tmp_path):
    executor = make_executor(1)
    log = str(tmp_path / "log")
    futures = [executor.submit(tasks.watch, tasks.Thing(), log) for _ in range(50)]
    assert [future.result(timeout=20) for future in futures] == list(range(50))
