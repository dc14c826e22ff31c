"""What `WorkerCrashed` says of a worker's end: it is all that anybody will ever know of it."""

import copy
import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import disttask
import tasks
from helpers import assert_usable, wait_until

MIB = 1 << 20


def crash_of(executor, *call, **options):
    exc = executor.options(**options).submit(*call).exception(timeout=60)
    assert type(exc) is disttask.WorkerCrashed, repr(exc)
    return exc


def write_and_abort():
    os.write(2, b"malloc(): corrupted\n")
    os.abort()


def py_fatal_error():
    ctypes.pythonapi.Py_FatalError(b"its last reason")


def with_its_own_faulthandler(path=None):
    if path is None:
        faulthandler.enable()
        ctypes.string_at(0)
    with Path(path).open("w") as file:
        faulthandler.enable(file)
        ctypes.string_at(0)


def without_faulthandler():
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def child_crashes(how):
    child = os.fork()
    if child == 0:
        ctypes.string_at(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    if how == "return":
        return "unharmed"
    faulthandler.disable()
    return os._exit(7) if how == "exit" else os.kill(os.getpid(), signal.SIGSEGV)


def flood_and_crash(count):
    for number in range(count):
        print("line", number, file=sys.stderr)
    ctypes.string_at(0)


def flood_descriptor_and_crash(count):
    for first in range(0, count, 1000):
        os.write(2, b"".join(b"line %d\n" % number for number in range(first, first + 1000)))
    os.abort()


def crash_in_a_thread():
    for _ in range(3):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    thread = threading.Thread(target=tasks.segfault)
    thread.start()
    time.sleep(60)


def crash_deep(levels):
    if levels:
        crash_deep(levels - 1)
    ctypes.string_at(0)


def have_and_die(mebibytes, seconds=0.0):
    block = bytearray(mebibytes * MIB)
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
    return block


def run_and_end(path, ends):
    """In another way each time."""
    tasks.log(path, "run")
    run = len(tasks.lines(path))
    if ends[run - 1] == "raise":
        raise ValueError(f"run {run}")
    tasks.DEATHS[ends[run - 1]]()


def meet_and_crash(folder, name, count):
    """All at once."""
    (folder / name).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.001)
    os.write(2, name.encode())
    ctypes.string_at(0)


def submit_nested():
    crash = disttask.Executor(1).submit(have_and_die, 100).exception()
    return type(crash).__name__, crash.oom_killed, crash.exitcode, crash.peak_memory, str(crash)


SIGNALS = {
    "Segmentation fault": (tasks.segfault, signal.SIGSEGV),
    "Aborted": (tasks.abort, signal.SIGABRT),
    "Bus error": (signal.raise_signal, signal.SIGBUS),
    "Floating": (signal.raise_signal, signal.SIGFPE),
    "Illegal instruction": (signal.raise_signal, signal.SIGILL),
}


@pytest.mark.parametrize("words", SIGNALS)
def test_a_fatal_signal_leaves_its_stack(executor, words, capfd):
    function, number = SIGNALS[words]
    exc = crash_of(executor, function, *([number] if function is signal.raise_signal else []))
    assert (exc.signal, exc.exitcode, exc.exit_status) == (number, -number, None)
    assert exc.stack.startswith(f"Fatal Python error: {words}")
    assert "most recent call first" in exc.stack
    assert exc.stack.count("Fatal Python error") == 1
    assert exc.stderr == ""
    assert exc.oom_killed is False
    assert f"; its stack:\nFatal Python error: {words}" in str(exc)
    wait_until(lambda: words in capfd.readouterr().err, 5, "it is on our own stderr, too")
    assert_usable(executor)


def test_what_c_code_has_written_comes_with_it(executor):
    exc = crash_of(executor, write_and_abort)
    assert exc.stderr == "malloc(): corrupted"
    assert exc.stack.startswith("Fatal Python error: Aborted")
    assert " in write_and_abort" in exc.stack
    assert str(exc).endswith("The last lines of its stderr:\nmalloc(): corrupted")


def test_the_interpreter_itself_gives_up(executor):
    exc = crash_of(executor, py_fatal_error)
    assert exc.signal == signal.SIGABRT
    assert exc.stack.startswith("Fatal Python error: ")
    assert "its last reason" in exc.stack
    assert " in py_fatal_error" in exc.stack
    assert str(exc).count("its last reason") == 1


def test_a_task_may_use_faulthandler_itself(executor, tmp_path):
    exc = crash_of(executor, with_its_own_faulthandler)
    assert exc.stack.startswith("Fatal Python error: Segmentation fault")
    assert str(exc).count("Fatal Python error") == 1
    exc = crash_of(executor, with_its_own_faulthandler, str(tmp_path / "report"))
    assert exc.stack == ""
    assert "Segmentation fault" in (tmp_path / "report").read_text()
    assert crash_of(executor, without_faulthandler).stack == ""


@pytest.mark.parametrize("how", ["exit", "signal"])
def test_what_a_forked_child_died_of_is_not_said_of_the_worker(make_executor, how, capfd):
    executor = make_executor(1)
    assert executor.submit(child_crashes, "return").result(timeout=20) == "unharmed"
    exc = crash_of(executor, child_crashes, how)
    assert exc.exitcode == (7 if how == "exit" else -signal.SIGSEGV)
    assert exc.stack == exc.stderr == ""
    assert "Fatal" not in str(exc)
    wait_until(lambda: "Segmentation fault" in capfd.readouterr().err, 5, "but it is shown")
    assert crash_of(executor, tasks.segfault).stack.count("Fatal Python error") == 1


@pytest.mark.parametrize("flood", [flood_and_crash, flood_descriptor_and_crash])
def test_a_flood_does_not_wash_the_evidence_away(make_executor, flood, capfd):
    executor = make_executor(1)
    exc = crash_of(executor, flood, 200_000)
    assert exc.stderr.endswith("line 199999")
    assert len(exc.stderr) <= 8192
    assert f" in {flood.__name__}" in exc.stack
    assert len(str(exc)) < 4000
    capfd.readouterr()


def test_a_deep_stack_is_bounded_and_the_innermost_frames_are_shown(executor):
    exc = crash_of(executor, crash_deep, 500)
    assert 90 < exc.stack.count(" in crash_deep") <= 100  # where faulthandler ends
    assert len(exc.stack) < 40_000
    assert 10 < str(exc).count(" in crash_deep") <= 20


def test_the_text_shows_the_thread_that_crashed(executor):
    exc = crash_of(executor, crash_in_a_thread)
    assert exc.stack.count("most recent call first") == 5
    assert str(exc).count("most recent call first") == 1
    assert " in segfault" in str(exc)
    assert " in crash_in_a_thread" in exc.stack
    assert " in crash_in_a_thread" not in str(exc)


def test_two_at_once_have_their_own(make_executor, tmp_path):
    executor = make_executor(2)
    futures = [executor.submit(meet_and_crash, tmp_path, name, 2) for name in ("one", "two")]
    crashes = [future.exception(timeout=20) for future in futures]
    assert [crash.stderr for crash in crashes] == ["one", "two"]
    assert crashes[0].pid != crashes[1].pid
    for crash in crashes:
        assert crash.stack.count("Fatal Python error") == crash.stack.count(" in meet_and_crash") == 1


def test_exits_and_other_signals_have_no_stack(executor):
    exc = crash_of(executor, os._exit, 3)
    assert (exc.exitcode, exc.exit_status, exc.signal, exc.stack, exc.oom_killed) == (3, 3, None, "", False)
    exc = crash_of(executor, signal.raise_signal, signal.SIGTERM)
    assert (exc.exitcode, exc.stack, exc.oom_killed) == (-signal.SIGTERM, "", False)
    assert type(executor.submit(sys.exit, 3).exception(timeout=10)) is SystemExit


def test_the_earlier_attempts_are_listed(executor, tmp_path):
    note = tmp_path / "runs"
    ends, options = ["segfault", "exit", "raise", "kill"], {"retry_on": ValueError, "backoff": 0}
    exc = crash_of(executor, run_and_end, note, ends, retries=5, crash_limit=3, **options)
    assert exc.attempts == 4
    assert exc.signal == signal.SIGKILL
    segfault, left, raised = exc.earlier_attempts
    assert segfault.startswith("attempt 1: worker pid ")
    assert segfault.endswith("was killed by signal 11 (SIGSEGV)")
    assert left.startswith("attempt 2: worker pid ")
    assert left.endswith("exited with status 7")
    assert raised == "attempt 3: it raised ValueError: run 3"
    assert all(end in str(exc) for end in exc.earlier_attempts)


def test_a_poison_task_is_given_up_with_all_that_is_known(executor):
    exc = crash_of(executor, tasks.segfault, retries=100, crash_limit=12, backoff=0)
    assert exc.attempts == 12
    assert [end.split(":")[0] for end in exc.earlier_attempts] == [f"attempt {n}" for n in range(2, 12)]
    assert len({end.split("pid ")[1].split()[0] for end in exc.earlier_attempts} | {str(exc.pid)}) == 11
    assert "attempt 11:" in str(exc)
    assert "attempt 8:" not in str(exc)
    assert " in segfault" in exc.stack


def test_attempts_of_another_task_are_not_listed(make_executor, tmp_path):
    executor = make_executor(1)
    again = executor.options(retries=1, backoff=0)
    assert again.submit(tasks.fail_once, tmp_path / "runs", "segfault").exception(timeout=20) is None
    assert crash_of(executor, os._exit, 1).earlier_attempts == ()


PEAKS = """
import gc, sys
import disttask, test_evidence
with disttask.Executor(1) as executor:
    print(executor.submit(test_evidence.have_and_die, 200).exception().peak_memory // 2**20)
    ballast = bytearray(600 << 20)
    executor.restart(wait=True)
    print(executor.submit(test_evidence.have_and_die, 700).exception().peak_memory // 2**20)
    print(executor.submit(test_evidence.have_and_die, 200, 1.2).exception().peak_memory // 2**20)
    del ballast
    print(executor.submit(test_evidence.have_and_die, 0).exception().peak_memory // 2**20)
"""


def test_the_peak_of_memory_is_the_workers_own(run_script):
    """A process that is spawned begins with its parent's peak, as far as `wait4` is concerned."""
    small, larger, large_host, small_again = map(int, run_script(PEAKS, timeout=60).out.split())
    assert 200 <= small < 300
    assert 700 <= larger < 800
    assert 200 <= large_host < 300, "seen before it died"
    assert small_again < 100


def test_it_survives_pickling_copying_and_nested_tasks(executor):
    exc = crash_of(executor, write_and_abort, retries=1, backoff=0)
    assert exc.earlier_attempts
    for twin in (pickle.loads(pickle.dumps(exc)), copy.copy(exc), copy.deepcopy(exc)):
        assert vars(twin) == vars(exc)
        assert (str(twin), twin.exitcode) == (str(exc), exc.exitcode)
    sent = executor.submit(tasks.same, exc).result(timeout=10)
    assert (vars(sent), str(sent)) == (vars(exc), str(exc))
    kind, oom_killed, exitcode, peak, text = executor.submit(submit_nested).result(timeout=30)
    assert (kind, exitcode) == ("WorkerCrashed", -signal.SIGKILL)
    assert oom_killed in (False, None)
    assert peak >= 100 * MIB
    assert "(have_and_die); its peak memory was at least 1" in text


def oom_kills_of_this_machine():
    lines = Path("/proc/vmstat").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]


def test_a_kill_from_outside_is_not_laid_at_the_kernels_door(executor):
    before = oom_kills_of_this_machine()
    exc = crash_of(executor, tasks.kill_myself)
    if not before or oom_kills_of_this_machine() != before:
        pytest.skip("this kernel does not count, or its out-of-memory killer has just been at work")
    assert exc.oom_killed is False
    assert "signal 9 (SIGKILL; it was not the kernel's out-of-memory killer)" in str(exc)


OOM = """
import os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
import disttask, tasks, test_evidence
def crash(function, *args, **options):
    return executor.options(**options).submit(function, *args).exception(timeout=30)
with disttask.Executor(1) as executor:
    oom = crash(test_evidence.have_and_die, 2000)
    print(oom)
    assert oom.oom_killed is True and oom.exitcode == -9, repr(oom)
    assert "; the kernel's out-of-memory killer ended 1 process of this cgroup meanwhile" in str(oom)
    assert 2000 > oom.peak_memory / 2**20 > 100, oom.peak_memory
    again = crash(test_evidence.have_and_die, 2000, retries=2, backoff=0)
    assert again.oom_killed is True and again.attempts == 3, repr(again)
    assert all("out-of-memory killer ended" in end for end in again.earlier_attempts), again.earlier_attempts
    assert executor.submit(abs, -1).result(timeout=30) == 1
    print("done")
"""


@pytest.fixture
def small_cgroup():
    """A control group inside our own, with 300 MiB."""
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    first = next((line.split(":", 2)[2] for line in groups if "memory" in line.split(":")[1].split(",")), None)
    if first is None:
        own = Path("/sys/fs/cgroup" + next(line.split("::")[1] for line in groups if line.startswith("0::")))
        limits = {"memory.max": 300 * MIB, "memory.swap.max": 0}
    else:
        own = Path("/sys/fs/cgroup/memory" + first)
        limits = {"memory.limit_in_bytes": 300 * MIB}
    group = own / f"disttask-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        for name, limit in limits.items():
            try:
                (group / name).write_text(str(limit))
            except OSError as error:
                pytest.skip(f"no limit of memory can be set here: {error}")
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), 10, "the group is empty")
        group.rmdir()


def test_the_kernels_out_of_memory_killer_is_named(small_cgroup, run_script):
    assert run_script(OOM, args=[str(small_cgroup)], timeout=60).out.endswith("done\n")


@pytest.mark.parametrize("stderr", ["the last words", "the last words\n"])
def test_the_text_has_the_last_words(stderr):
    text = str(disttask.WorkerCrashed("it died", stderr=stderr))
    assert text == "it died; the last lines of its stderr:\nthe last words"
