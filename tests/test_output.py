"""What tasks print and log: shown live by whoever submitted them, and kept with the task."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

from helpers import TESTS, assert_usable, wait_idle, wait_until


def say(text, error=""):
    sys.stdout.write(text)
    sys.stderr.write(error)
    return text


def say_and_wait(note):
    print("begun")
    while not os.path.exists(note):
        time.sleep(0.01)


def test_it_is_kept_with_its_task_in_order(executor):
    def both(number):
        for step in range(3):
            print("out", number, step)
            print("err", number, step, file=sys.stderr)

    futures = [executor.submit(both, number) for number in range(20)]
    for number, future in enumerate(futures):
        future.result(timeout=10)
        steps = range(3)
        assert future.output() == "".join(f"out {number} {step}\nerr {number} {step}\n" for step in steps)
        assert future.output("stdout") == "".join(f"out {number} {step}\n" for step in steps)
        assert future.output("stderr") == "".join(f"err {number} {step}\n" for step in steps)
        assert future.output("log") == ""
    silent = executor.submit(abs, -1)
    assert (silent.result(timeout=10), silent.output()) == (1, "")


def test_a_task_that_closes_its_streams_closes_them_for_nobody(make_executor):
    def close():
        print("closing")
        sys.stdout.close()
        sys.stderr.close()

    executor = make_executor(1)
    closing, speaking = executor.submit(close), executor.submit(say, "on", "off")
    assert speaking.result(timeout=10) == "on"
    assert (closing.output(), speaking.output("stdout"), speaking.output("stderr")) == ("closing\n", "on", "off")
    assert executor.submit(lambda: (sys.stdout.closed, print("still"))).result(timeout=10) == (False, None)


def test_a_wrong_stream_is_an_error(executor):
    with pytest.raises(ValueError, match="'stdout', 'stderr', 'log' or None, not 'stdin'"):
        executor.submit(abs, -1).output("stdin")


def test_it_is_shown_before_what_the_caller_prints_next(executor, capsys):
    for number in range(50):
        executor.submit(say, f"task {number}\n", f"error {number}\n").result(timeout=10)
        print("caller", number)
    shown = capsys.readouterr()
    assert shown.out == "".join(f"task {number}\ncaller {number}\n" for number in range(50))
    assert shown.err == "".join(f"error {number}\n" for number in range(50))


def test_it_is_shown_while_the_task_runs(executor, capsys, tmp_path):
    future = executor.submit(say_and_wait, tmp_path / "end")
    shown = []
    wait_until(lambda: shown.append(capsys.readouterr().out) or "begun\n" in "".join(shown), 5, "shown live")
    assert not future.done()
    assert future.output() == "begun\n"
    (tmp_path / "end").touch()
    future.result(timeout=10)


def test_it_goes_to_the_stream_of_the_moment(executor):
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        executor.submit(say, "a\nhalf a line").result(timeout=10)
    assert stream.getvalue() == "a\nhalf a line"


def test_map_and_exception_and_get_results_show_it_too(executor, capsys):
    list(executor.map(print, range(100)))
    assert sorted(map(int, capsys.readouterr().out.split())) == list(range(100))
    assert executor.submit(lambda: print("raises") or 1 / 0).exception(timeout=10) is not None
    assert capsys.readouterr().out == "raises\n"


def test_a_stream_that_raises_or_submits_breaks_nothing(executor, monkeypatch):
    class Broken(io.StringIO):
        def write(self, text):
            raise RuntimeError(text)

    class Nested(io.StringIO):
        def write(self, text):
            assert executor.submit(abs, -2).result(timeout=10) == 2
            return super().write(text)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Broken())
        assert executor.submit(say, "x\n").result(timeout=10) == "x\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", nested := Nested())
        executor.submit(say, "y\n").result(timeout=10)
        assert nested.getvalue() == "y\n"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)  # as under pythonw, or a daemon
        executor.submit(say, "z\n").result(timeout=10)
    assert_usable(executor)


def test_descriptors_and_child_processes(executor, capsys):
    def outside():
        os.write(1, b"descriptor\n")
        subprocess.run(["sh", "-c", "echo child; echo 'its error' >&2"], check=True)
        subprocess.run(["echo", "to sys.stdout"], check=True, stdout=sys.stdout)

    future = executor.submit(outside)
    future.result(timeout=10)
    assert future.output("stdout") == "descriptor\nchild\nto sys.stdout\n"
    assert future.output("stderr") == "its error\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("descriptor\nchild\nto sys.stdout\n", "its error\n")


def test_a_grandchild_that_holds_the_pipe_holds_nothing_up(make_executor, tmp_path):
    executor = make_executor(1)

    def leave_one():
        subprocess.Popen(["sh", "-c", "while true; do echo again; sleep 0.01; done"])
        print("left one")

    future = executor.submit(leave_one)
    future.result(timeout=10)
    assert "left one\n" in future.output()
    start = time.monotonic()
    executor.shutdown()
    assert time.monotonic() - start < 5


def test_characters_bytes_and_surrogates(executor, capsys):
    def all_of_them():
        print("äöü €")
        sys.stdout.buffer.write(b"bytes\n")
        sys.stdout.buffer.write(memoryview(bytearray(b"view\n")))
        print("\ud800")
        print("partial", end="")
        print(sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.writable())
        for half in ("€"[0:1].encode()[:1], "€".encode()[1:]):
            os.write(2, half)
            time.sleep(0.05)
        os.write(2, b"\xff\n")

    future = executor.submit(all_of_them)
    future.result(timeout=10)
    expected = "äöü €\nbytes\nview\n\\ud800\npartialutf-8 False 1 True\n"
    assert future.output("stdout") == expected
    assert future.output("stderr") == "€\ufffd\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (expected, "€\ufffd\n")


def test_a_dying_worker_has_said_it(executor, capsys):
    def last_words():
        print("to stdout")
        sys.stderr.write("no end of line")
        os.write(1, b"to the descriptor\n")
        os._exit(3)

    future = executor.submit(last_words)
    crash = future.exception(timeout=10)
    assert future.output("stdout") == "to stdout\nto the descriptor\n"
    assert crash.stderr == future.output("stderr") == "no end of line"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("to stdout\nto the descriptor\n", "no end of line")


def test_each_attempt_is_kept(executor, tmp_path):
    def die_once(note):
        print("attempt")
        if not note.exists():
            note.touch()
            os._exit(1)

    future = executor.options(retries=1).submit(die_once, tmp_path / "note")
    future.result(timeout=10)
    assert future.output() == "attempt\nattempt\n"


def test_threads_and_forks_of_a_task_print_for_it(executor):
    def with_company():
        threads = [threading.Thread(target=sys.stdout.write, args=("thread\n",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pid = os.fork()
        if pid == 0:
            print("child")
            os._exit(0)
        os.waitpid(pid, 0)

    future = executor.submit(with_company)
    future.result(timeout=10)
    assert future.output() == "thread\n" * 5 + "child\n"


FLOOD = """
import os, resource, sys
import disttask

def flood():
    line = "x" * 999
    for _ in range(100_000):
        print(line)
    print("the end")

if __name__ == "__main__":
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with disttask.Executor(1) as executor:
        future = executor.submit(flood)
        future.result(timeout=60)
        assert executor.submit(abs, -1).result(timeout=5) == 1
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        output = future.output()
        os.write(2, f"{grown} {len(output)} {output[:60]!r} {output[-8:]!r}".encode())
        os.write(2, b" done\\n")
"""


@pytest.fixture
def flood(tmp_path):
    """A host with a task that prints 100 MB; nobody reads its stdout yet."""
    program = tmp_path / "flood.py"
    program.write_text(FLOOD)
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PYTHONPATH": str(TESTS)}
    )
    yield process
    process.kill()
    process.communicate()


def test_a_flood_that_nobody_reads_is_dropped_and_that_is_said(flood):
    line = flood.stderr.readline().decode()
    grown, kept, rest = line.split(" ", 2)
    assert int(grown) < 64 * 1024, "kB: 16 MiB wait, 256 kB are kept"
    assert int(kept) < 263_000
    assert "bytes before this are not kept" in rest
    assert "'the end\\n' done" in rest
    assert flood.wait(10) == 0, "a reader that never comes does not hold the end up"


def test_what_was_dropped_is_said_where_it_would_have_been(flood):
    assert b" done\n" in flood.stderr.readline()
    out, err = flood.communicate(timeout=30)
    assert 0 < len(out) < 20 * 2**20
    assert b"bytes of task output dropped]" in err


def test_without_capture_the_worker_has_the_hosts_stdout(run_script):
    script = """
import disttask, os, sys
def say():
    print("to the host's own")
    sys.stdout.flush()
    return os.readlink("/proc/self/fd/1")
with disttask.Executor(1, capture_output=False) as executor:
    future = executor.submit(say)
    assert future.result(timeout=10) == os.readlink("/proc/self/fd/1")
    assert future.output() == ""
"""
    assert run_script(script).out == "to the host's own\n"


def test_the_end_of_the_program_waits_for_it(run_script):
    script = """
import disttask, time
executor = disttask.Executor(1)
executor.submit(lambda: time.sleep(0.3) or print("late"))
print("end of the script")
"""
    assert run_script(script).out == "end of the script\nlate\n"


# --- logging -------------------------------------------------------------------------------------------------------


def log(name, level, *args, **kwargs):
    import logging

    logging.getLogger(name).log(level, *args, **kwargs)


def test_records_reach_the_hosts_logger_of_the_same_name(executor, caplog):
    future = executor.submit(log, "some.name", logging.WARNING, "seen %s by %r", 3, {"a": [1]})
    future.result(timeout=10)
    (record,) = caplog.records
    assert (record.name, record.levelno, record.getMessage()) == ("some.name", logging.WARNING, "seen 3 by {'a': [1]}")
    assert record.task_id == future.task_id
    assert record.process in {worker["pid"] for worker in executor.status()["workers"]}
    assert record.funcName == "log"
    assert future.output("log") == "WARNING:some.name:seen 3 by {'a': [1]}\n"
    assert future.output("stderr") == ""


def test_tracebacks_extras_and_long_ones(executor, caplog):
    def fail():
        import logging

        logger = logging.getLogger("failing")
        try:
            raise KeyError("it")
        except KeyError:
            logger.exception("caught", extra={"number": 7, "thing": object})
        logger.warning("x" * 1_000_000)

    future = executor.submit(fail)
    future.result(timeout=10)
    caught, long = caplog.records
    assert "KeyError: 'it'" in caught.exc_text
    assert (caught.number, caught.thing) == (7, "<class 'object'>")
    assert "[... 996000 characters ...]" in long.getMessage()
    assert len(long.getMessage()) < 5000
    assert future.output("log").startswith("ERROR:failing:caught\nTraceback")


def test_levels_are_the_hosts(make_executor, caplog):
    caplog.set_level(logging.INFO, "talks")
    caplog.set_level(logging.CRITICAL, "keeps.quiet")
    executor = make_executor(1)

    def enabled():
        import logging

        return [
            logging.getLogger(name).isEnabledFor(level)
            for name in ("talks", "talks.too", "keeps.quiet", "other")
            for level in (logging.DEBUG, logging.INFO, logging.ERROR)
        ]

    assert executor.submit(enabled).result(timeout=10) == [
        *(False, True, True, False, True, True, False, False, False, False, False, True)
    ]
    caplog.set_level(logging.ERROR, "talks")  # what was changed since then counts here
    for level in (logging.INFO, logging.ERROR):
        executor.submit(log, "talks", level, "heard").result(timeout=10)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_task_that_sets_up_logging_has_it_its_way(executor, caplog):
    def own():
        import logging

        logging.basicConfig(format="own %(message)s", force=True)
        logging.getLogger("x").error("mine")

    future = executor.submit(own)
    future.result(timeout=10)
    assert caplog.records == []
    assert future.output() == "own mine\n"


def test_logging_is_not_forwarded_where_that_is_not_wanted(make_executor, caplog):
    executor = make_executor(1, forward_logging=False)
    future = executor.submit(log, "x", logging.ERROR, "as in any process")
    future.result(timeout=10)
    assert caplog.records == []
    assert future.output("stderr") == "as in any process\n"


def test_workers_import_no_logging_for_it(make_executor):
    executor = make_executor(1)
    wait_idle(executor)
    assert executor.submit(eval, "'logging' in __import__('sys').modules").result(timeout=10) is False
