"""Ways to leave the interpreter: each ends soon, with the right status, and leaves no process behind.

`Script.wait` checks for each that no worker is left one second later, and that nothing on stderr says that
the interpreter or the Rust side came apart.
"""

import os
import signal
import sys

import pytest

import tasks
from helpers import ALARMS, wait_until

BEGIN = """
import atexit, os, signal, sys, threading, time
import disttask, helpers, tasks
from concurrent.futures import wait
executor = disttask.Executor(2)
"""

# name: (what the script does after BEGIN, its status)
WAYS = {
    "plain end, never used": ("", 0),
    "plain end after a result": ("executor.submit(abs, -1).result()", 0),
    "plain end with idle default executor": ("disttask.submit(abs, -1).result()", 0),
    "end while the workers start": ("disttask.Executor(16)", 0),
    "end of many pools": ("pools = [disttask.Executor(1) for _ in range(5)]; pools[0].submit(abs, -1)", 0),
    "sys.exit": ("executor.submit(tasks.sleep, 0.2); sys.exit(3)", 3),
    "unhandled exception": ("executor.submit(tasks.sleep, 0.2); raise ValueError('on purpose')", 1),
    "exit inside with": ("with executor:\n    executor.submit(tasks.sleep, 0.2)\n    sys.exit(4)", 4),
    "os._exit with work": (
        "f = executor.submit(tasks.sleep, 60); helpers.wait_busy(executor); os._exit(5)",
        5,
    ),
    "os.abort with work": (
        "f = executor.submit(tasks.sleep, 60); helpers.wait_busy(executor); os.abort()",
        -signal.SIGABRT,
    ),
    "after shutdown without waiting": ("executor.submit(tasks.sleep, 0.2); executor.shutdown(wait=False)", 0),
    "dropped executor": ("executor.submit(tasks.sleep, 0.2); del executor", 0),
    "executor in a cycle": ("class A: pass\na = A(); a.a = a; a.e = executor; del executor, a", 0),
    "observed futures": (
        "fs = [executor.submit(tasks.sleep, 0.01) for _ in range(50)]\nwait(fs, timeout=0.01)",
        0,
    ),
    "daemon thread blocked in result": (
        "f = executor.submit(tasks.sleep, 0.3)\nthreading.Thread(target=f.result, daemon=True).start()",
        0,
    ),
    "daemon thread blocked in wait": (
        "fs = [executor.submit(tasks.sleep, 0.3)]\nthreading.Thread(target=wait, args=(fs,), daemon=True).start()",
        0,
    ),
    "many daemon threads that poll": (
        """
def poll():
    while True:
        future = executor.submit(tasks.sleep, 0.05)
        while not future.done():
            try:
                future.result(timeout=0.001)
            except TimeoutError:
                executor.status()
for _ in range(20):
    threading.Thread(target=poll, daemon=True).start()
threading.excepthook = lambda args: None
time.sleep(0.3)
""",
        0,
    ),
    "many daemon threads that look": (
        """
def look():
    future = executor.submit(abs, -1)
    while True:
        executor.status()
        future.done()
        future.result()
for _ in range(20):
    threading.Thread(target=look, daemon=True).start()
time.sleep(0.2)
""",
        0,
    ),
    "non-daemon thread waits": (
        "f = executor.submit(tasks.sleep, 0.3)\nthreading.Thread(target=f.result).start()",
        0,
    ),
    "non-daemon thread submits on": (
        """
def storm():
    try:
        while True:
            executor.submit(tasks.sleep, 0.001)
            time.sleep(0.001)
    except RuntimeError as exc:
        assert "after interpreter shutdown" in str(exc), exc
        print("refused", flush=True)
threading.Thread(target=storm).start()
time.sleep(0.2)
""",
        0,
    ),
    "non-daemon thread shuts another pool down": (
        """
other = disttask.Executor(1)
other.submit(tasks.sleep, 0.1)
executor.submit(tasks.sleep, 0.6)
threading.Timer(0.2, other.shutdown).start()
""",
        0,
    ),
    "non-daemon thread makes another pool": (
        """
def late():
    time.sleep(0.2)
    global other
    other = disttask.Executor(1)
    other.submit(tasks.sleep, 0.3).add_done_callback(lambda f: print("done", flush=True))
threading.Thread(target=late).start()
executor.submit(tasks.sleep, 0.6)
""",
        0,
    ),
    "sys.exit in a callback": (
        "executor.submit(tasks.sleep, 0.1).add_done_callback(lambda f: sys.exit(6))",
        0,
    ),
    "os._exit in a callback": (
        "executor.submit(tasks.sleep, 0.1).add_done_callback(lambda f: os._exit(6))\ntime.sleep(30)",
        6,
    ),
    "callback that runs at exit": (
        "executor.submit(tasks.sleep, 0.2).add_done_callback(lambda f: time.sleep(0.3))",
        0,
    ),
    "atexit handler uses the executor": (
        """
@atexit.register
def late():
    try:
        executor.submit(abs, -1)
    except RuntimeError as exc:
        assert "after interpreter shutdown" in str(exc), exc
        assert executor.status()["workers"] == []
""",
        0,
    ),
    "atexit handler makes an executor": (
        """
@atexit.register
def late():
    with disttask.Executor(1) as own:
        assert own.submit(abs, -1).result() == 1
    disttask.Executor(1).submit(abs, -1)
""",
        0,
    ),
    "broken pool": (
        """
bad = disttask.Executor(2, executable="/bin/false")
try:
    bad.submit(abs, -1).result()
except disttask.PoolBroken:
    pass
""",
        0,
    ),
    "pool that is about to break": ("bad = disttask.Executor(2, executable='/bin/false')", 0),
    "worker that sleeps in atexit": (
        "def hang():\n    import atexit\n    atexit.register(time.sleep, 60)\nexecutor.submit(hang).result()",
        0,
    ),
    "worker with a thread that does not end": (
        "def hang():\n    threading.Thread(target=time.sleep, args=(60,)).start()\nexecutor.submit(hang).result()",
        0,
    ),
    "forked child left": ("pid = os.fork()\nif pid == 0:\n    os._exit(0)\nos.waitpid(pid, 0)", 0),
    "end after a crash": ("executor.submit(os._exit, 1)", 0),
    "end during retries": ("executor.options(retries=3).submit(os._exit, 1)", 0),
    "globals that hold futures": (
        "import builtins\nbuiltins.held = [executor, executor.submit(tasks.sleep, 0.2)]",
        0,
    ),
    "result in __del__": (
        """
class Late:
    def __init__(self): self.future = executor.submit(abs, -1)
    def __del__(self): self.future.result(timeout=1)
late = Late()
""",
        0,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_leaving(start_script, way):
    if way == "non-daemon thread makes another pool" and sys.version_info[:2] == (3, 12):
        pytest.skip("3.12 starts no thread once the main thread has ended, 3.11 and 3.13 do")
    body, status = WAYS[way]
    alarms = [alarm for alarm in ALARMS if not (way == "os.abort with work" and alarm == "Fatal")]
    ended = start_script(BEGIN + body).wait(10, alarms)
    assert ended.status == status, ended.err
    if status in (0, 3, 4, 5, 6) and way != "sys.exit in a callback":
        assert "Traceback" not in ended.err, ended.err


@pytest.mark.parametrize("executor", ["executor", "disttask"])
@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError('on purpose')", "del executor"])
def test_accepted_work_is_done_before_the_end(start_script, tmp_path, executor, end):
    if "del" in end and executor == "disttask":
        end = ""
    log = str(tmp_path / "log")
    script = start_script(f"""{BEGIN}
for n in range(50):
    {executor}.submit(tasks.logged_sleep, {log!r}, n, 0.01)
{end}
""")
    script.wait(10)
    assert sorted(map(int, tasks.lines(log))) == list(range(50))


# --- signals --------------------------------------------------------------------------------------


def test_sigterm(start_script):
    script = start_script(BEGIN + "f = executor.submit(tasks.sleep, 60)\nprint('up', flush=True)\nf.result()")
    script.wait_out("up")
    script.send(signal.SIGTERM)
    assert script.wait(5).status == -signal.SIGTERM


def test_ctrl_c_in_result_returns_at_once_and_the_pool_goes_on(start_script):
    script = start_script(
        BEGIN
        + """
futures = [executor.submit(tasks.sleep, 2, n) for n in range(2)]
for observed in (False, True):
    if observed:
        futures[0].add_done_callback(lambda f: None)
    print("waiting", observed, flush=True)
    try:
        futures[0].result()
    except KeyboardInterrupt:
        print("interrupted", time.monotonic(), flush=True)
print(executor.submit(abs, -1).result(), [future.result() for future in futures])
"""
    )
    for observed in ("False", "True"):
        script.wait_out(f"waiting {observed}")
        script.send(signal.SIGINT)
        wanted = 1 + (observed == "True")
        wait_until(lambda: script.out.count("interrupted") == wanted, 1.0, "interrupted within 1 s")  # noqa: B023
    ended = script.wait(10)
    assert ended.status == 0
    assert ended.out.endswith("1 [0, 1]\n")


@pytest.mark.parametrize(
    "waiting",
    ["wait(fs)", "list(executor.map(tasks.sleep, [60]))", "executor.shutdown()", "disttask.get_results()"],
)
def test_ctrl_c_in_other_waits(start_script, waiting):
    script = start_script(
        BEGIN
        + f"""
fs = [executor.submit(tasks.sleep, 60), disttask.submit(tasks.sleep, 60)]
print("waiting", flush=True)
try:
    {waiting}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    os._exit(7)
"""
    )
    script.wait_out("waiting")
    script.send(signal.SIGINT)
    assert script.wait(2).status == 7
    assert "interrupted" in script.out


def test_ctrl_c_inside_with(start_script):
    script = start_script(
        BEGIN
        + """
with executor:
    fs = [executor.submit(tasks.sleep, 60) for _ in range(5)]
    print("up", flush=True)
    fs[0].result()
"""
    )
    script.wait_out("up")
    script.send(signal.SIGINT)
    ended = script.wait(5)
    assert ended.status == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.err


AT_EXIT = """
def late():
    exec("pass")  # which tells the interpreter that its last code has ended well
    print("late", end="")

atexit.register(late)
held = open(HELD, "w")
held.write("kept")  # and neither flushed nor closed
fs = [executor.submit(tasks.sleep, 60) for _ in range(5)]
helpers.wait_busy(executor, 2)
threading._register_atexit(lambda: print("waiting", flush=True))  # runs before ours: the last one goes first
print("end", end="")
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("", -signal.SIGINT), ("raise ValueError('on purpose')", -signal.SIGINT), ("sys.exit(3)", 3)],
)
def test_ctrl_c_while_waiting_at_exit(start_script, tmp_path, end, status):
    """Accepted work is lost, so it says so, and so does the status, unless that is the program's own."""
    script = start_script(BEGIN + AT_EXIT.replace("HELD", repr(str(tmp_path / "held"))) + end)
    script.wait_out("waiting")
    script.send(signal.SIGINT)
    ended = script.wait(8)
    assert ended.status == status
    lost = "interrupted at exit (KeyboardInterrupt): 5 tasks were not finished (2 of them running, now killed)"
    assert f"disttask: {lost}" in ended.err.splitlines()
    assert ended.out == "endwaiting\nlate"
    assert (tmp_path / "held").read_text() == "kept"


def test_one_ctrl_c_is_enough_though_nobody_reads_stderr(start_script):
    fill = """
reader, writer = os.pipe()
os.set_blocking(writer, False)
try:
    while True:
        os.write(writer, bytes(1))
except BlockingIOError:
    os.set_blocking(writer, True)
os.dup2(writer, 2)
"""
    script = start_script(BEGIN + fill + AT_EXIT.replace("HELD", repr(os.devnull)))
    script.wait_out("waiting")
    script.send(signal.SIGINT)
    ended = script.wait(15)
    assert ended.status == -signal.SIGINT
    assert ended.out == "endwaiting\nlate"


def test_ctrl_c_while_only_the_workers_are_waited_for(start_script):
    """No task is lost, so none is spoken of."""
    script = start_script(
        BEGIN
        + """
def hang():
    atexit.register(time.sleep, 60)

executor.submit(hang).result()
threading._register_atexit(lambda: print("waiting", flush=True))
"""
    )
    script.wait_out("waiting")
    script.send(signal.SIGINT)
    ended = script.wait(12)
    assert ended.status == -signal.SIGINT
    assert ended.err.splitlines() == ["disttask: interrupted at exit (KeyboardInterrupt)"]


def test_ctrl_c_that_ends_the_program_does_not_wait_for_what_is_left(start_script):
    script = start_script(
        BEGIN + "fs = [executor.submit(tasks.sleep, 60) for _ in range(9)]\nprint('go', flush=True)\nfs[0].result()"
    )
    script.wait_out("go")
    script.send(signal.SIGINT)
    ended = script.wait(8)
    assert "KeyboardInterrupt" in ended.err
    assert ended.status == -signal.SIGINT


def test_at_random_moments(start_script):
    """The end comes while workers start, run, answer and stop."""
    for delay in range(0, 200, 8):
        script = start_script(
            BEGIN + f"fs = [executor.submit(abs, n) for n in range(200)]\nwait(fs[:5])\ntime.sleep({delay / 1000})"
        )
        assert script.wait(10).status == 0
