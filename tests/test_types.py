"""Type checkers learn what tasks return, as with `concurrent.futures`; such types can be written at run time, too."""

from pathlib import Path

from mypy import api

import disttask

ROOT = Path(__file__).parents[1]


def test_what_a_type_checker_says(tmp_path):
    arguments = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    found, errors, status = api.run([*arguments, str(ROOT / "tests/typed_use.py")])
    assert (status, errors) == (0, ""), found + errors


def test_types_that_are_written_at_run_time(executor):
    future = executor.submit(abs, -1)
    assert isinstance(future, disttask.Future)
    assert disttask.Future[int].__origin__ is disttask.Future
    assert disttask.Task[[int], str].__origin__ is disttask.Task
    assert future.result() == 1
