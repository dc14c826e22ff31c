"""Accepted work is done before the end, whatever `sys.stderr` is by then."""

import pytest

import tasks

LOG = "sys.stderr = type('Log', (), {'write': lambda *_: %s, 'flush': lambda _: None%s})()"

STREAMS = {
    "closed": "sys.stderr.close()",
    "none": "sys.stderr = None",
    "an object that can only write": LOG % ("0", ""),
    "one that raises": LOG % ("[][0]", ", 'isatty': lambda _: True"),
}


@pytest.mark.parametrize("left", ["", "results = executor.map(abs, itertools.count())"], ids=["tasks", "endless map"])
@pytest.mark.parametrize("flags", [(), ("-W", "error")], ids=["", "warnings are errors"])
@pytest.mark.parametrize("stream", STREAMS)
def test_accepted_work_is_done_whatever_stderr_is(run_script, tmp_path, stream, flags, left):
    source = f"""
import itertools, sys
import disttask, tasks
executor = disttask.Executor(2)
futures = [executor.submit(tasks.logged_sleep, sys.argv[1], n, 0.5) for n in range(6)]
{left}
{STREAMS[stream]}
"""
    run_script(source, args=[str(tmp_path / "log")], flags=flags)
    assert sorted(map(int, tasks.lines(tmp_path / "log"))) == list(range(6))
