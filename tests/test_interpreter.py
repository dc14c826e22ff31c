"""A missing, a wrong and a broken interpreter: the pool is broken, at once and loudly."""

import os
import stat
import sys

import pytest

import disttask
from helpers import assert_usable, wait_until


def program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def broken(executor):
    """The error that a task on this executor ends with, which later submits raise at once."""
    try:
        first = executor.submit(abs, -1).exception(timeout=20)
    except disttask.PoolBroken as exc:
        first = exc
    assert type(first) is disttask.PoolBroken, repr(first)
    with pytest.raises(disttask.PoolBroken) as caught:
        executor.submit(abs, -1)
    assert str(caught.value) == str(first)
    assert executor.status()["broken"] == str(first)
    wait_until(lambda: executor.status()["workers"] == [])  # another may have been starting
    return str(first)


def test_a_missing_interpreter(make_executor, executor):
    text = broken(make_executor(2, executable="/no/such/python"))
    assert "No such file or directory" in text
    assert "interpreter: /no/such/python" in text
    assert_usable(executor)


def test_what_is_no_interpreter(make_executor, tmp_path):
    text = broken(make_executor(2, executable=program(tmp_path / "fake", "#!/bin/sh\necho no python >&2\nexit 3\n")))
    assert "exited with status 3" in text
    assert "no python" in text
    assert str(tmp_path / "fake") in text


def test_a_file_that_cannot_be_executed(make_executor, tmp_path):
    (tmp_path / "plain").write_text("")
    assert "Permission denied" in broken(make_executor(1, executable=tmp_path / "plain"))


def test_another_python(make_executor, tmp_path):
    """The very same, but it says that it is another version."""
    source = f"""#!{sys.executable}
import sys
sys.path[:] = {sys.path!r}
import disttask._handshake
disttask._handshake.hello = lambda: b"disttask 0.0.9 on cpython 2.7.18"
exec(sys.argv[-1])
"""
    text = broken(make_executor(1, executable=program(tmp_path / "other", source)))
    assert "the worker is disttask 0.0.9 on cpython 2.7.18, the host is disttask" in text
    assert "both must be the same" in text


def test_no_interpreter_at_all(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RuntimeError, match="pass Executor\\(executable="):
        disttask.Executor(1)


def test_waiting_tasks_fail_when_the_interpreter_is_lost(make_executor, tmp_path):
    """It worked, then somebody removed it: what waits is failed, not forgotten."""
    python = program(tmp_path / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    executor = make_executor(1, executable=python)
    assert executor.submit(abs, -1).result(timeout=10) == 1
    python.unlink()
    crash, waiting = executor.submit(os._exit, 1), [executor.submit(abs, -1) for _ in range(3)]
    assert type(crash.exception(timeout=10)) is disttask.WorkerCrashed
    assert {type(future.exception(timeout=20)) for future in waiting} == {disttask.PoolBroken}
    wait_until(lambda: executor.status()["broken"])
