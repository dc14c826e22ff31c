"""What workers write to stderr arrives on the host's own, whatever state that is in; and it holds nothing up."""

import subprocess
import sys

import pytest

from helpers import TESTS

LINES = 24_000

HOST = """
import os, sys
import disttask, tasks
if sys.argv[1] == "non-blocking":
    os.set_blocking(2, False)  # as node leaves it for whoever shares the terminal
with disttask.Executor(1) as executor:
    executor.submit(tasks.write_lines, int(sys.argv[2])).result(timeout=20)
    print("written", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def host(tmp_path):
    """Starts a host whose worker has written more than a pipe holds."""
    started = []
    program = tmp_path / "host.py"
    program.write_text(HOST)

    def start(mode):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, str(program), mode, str(LINES)]
        process = subprocess.Popen(command, **pipes, env={"PYTHONPATH": str(TESTS)})
        started.append(process)
        assert process.stdout.readline() == b"written\n", "a stopped terminal stops the pool"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def let_end(process):
    process.stdin.write(b"\n")
    process.stdin.close()
    process.stdin = None


@pytest.mark.parametrize("mode", ["blocking", "non-blocking"])
def test_everything_arrives_though_the_reader_comes_late(host, mode):
    process = host(mode)
    expected = b"".join(b"%09d\n" % line for line in range(LINES))
    assert process.stderr.read(len(expected)) == expected
    let_end(process)
    assert process.stderr.read() == b""
    assert process.wait(10) == 0


def test_a_reader_that_never_comes_does_not_hold_the_end_up(host):
    process = host("blocking")
    let_end(process)
    assert process.wait(5) == 0
