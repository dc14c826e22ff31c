import pytest

import disttask
from helpers import ALARMS, Script, children, open_fds, wait_busy, wait_until
from tasks import wait_for_file

POOL_FDS = 3
"""A pool that has ended holds its epoll, its eventfd and its bell until the last future of it is dropped."""


@pytest.fixture
def make_executor():
    """Makes executors and shuts them down; then no descriptor and no process of theirs may be left."""
    made = []
    fds, processes = open_fds(), children()

    def make(*args, **kwargs):
        made.append(disttask.Executor(*args, **kwargs))
        return made[-1]

    yield make
    for executor in made:
        executor.__exit__(KeyboardInterrupt, None, None)  # a test that failed may have left endless tasks
    wait_until(lambda: children() <= processes, 5, "all workers reaped")
    left = len(fds) + POOL_FDS * len(made)
    wait_until(lambda: len(open_fds()) <= left, 5, f"descriptors closed: had {fds}, have {open_fds()}")


@pytest.fixture
def executor(make_executor):
    return make_executor(2)


@pytest.fixture
def start_script(tmp_path):
    """Starts scripts in processes of their own; whatever is left of them at the end is killed."""
    scripts = []

    def start(source, **kwargs):
        scripts.append(Script(tmp_path, source, **kwargs))
        return scripts[-1]

    yield start
    for script in scripts:
        script.kill_all()


@pytest.fixture
def held(make_executor, tmp_path):
    """An executor with one worker that is busy until `release` is called."""
    executor = make_executor(1)
    executor.submit(wait_for_file, tmp_path / "go")
    wait_busy(executor)
    return executor, (tmp_path / "go").touch


@pytest.fixture
def run_script(start_script):
    """Runs a script to its end: ``run_script(source).out``."""

    def run(source, *, timeout=20.0, status=0, alarms=ALARMS, **kwargs):
        ended = start_script(source, **kwargs).wait(timeout, alarms)
        assert ended.status == status, f"status {ended.status}\n{ended.out}\n{ended.err}"
        return ended

    return run
