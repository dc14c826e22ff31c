"""A signal handler raises at each point of ours while a nested task is run: who waits is told, and asks again."""

import pytest

import point_tasks


@pytest.mark.parametrize("kind", [point_tasks.Tick, point_tasks.Late])
@pytest.mark.parametrize("name", point_tasks.CALLS)
def test_what_a_handler_raises_is_told_and_changes_no_outcome(make_executor, name, kind):
    """Before the task's first line it is the task's own end: as if it had come in that line."""
    wrong, points = make_executor(1).submit(point_tasks.at_each_point, name, kind).result(timeout=60)
    assert points > 15
    assert wrong == []
