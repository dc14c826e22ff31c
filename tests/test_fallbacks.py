"""Without pidfds, without memfds, without both: the same promises, by other means."""

import signal

import pytest

MODES = [{"DISTTASK_NO_PIDFD": "1"}, {"DISTTASK_NO_MEMFD": "1"}]
MODES.append(MODES[0] | MODES[1])
each_mode = pytest.mark.parametrize("env", MODES, ids=["no pidfd", "no memfd", "neither"])

CRASHES = """
import os, signal, disttask, tasks, helpers
with disttask.Executor(2) as executor:
    print(list(executor.map(abs, range(-5, 0))))
    exc = executor.submit(os._exit, 7).exception(timeout=10)
    print(type(exc).__name__, exc.exit_status)
    exc = executor.submit(tasks.segfault).exception(timeout=10)
    print(type(exc).__name__, exc.signal)
    print(executor.options(retries=3).submit(tasks.fail_once, "runs", "kill").result(timeout=10))
    exc = executor.options(timeout=0.3).submit(tasks.spin).exception(timeout=10)
    print(type(exc).__name__)
    for pid in helpers.wait_idle(executor):
        os.kill(pid, signal.SIGKILL)
        helpers.wait_until(lambda: pid not in helpers.children())
    print(list(executor.map(abs, range(-300, 0))) == list(range(300, 0, -1)))
    print(executor.submit(tasks.sleep, 0.2, "last").result(timeout=10))
print(helpers.children())
"""

EXPECTED = """[5, 4, 3, 2, 1]
WorkerCrashed 7
WorkerCrashed 11
survived
TaskTimeout
True
last
set()
"""


@each_mode
def test_crashes_and_timeouts(run_script, env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_script(CRASHES, env=env, timeout=60, alarms=()).out == EXPECTED


@each_mode
def test_the_switch_does_what_it_says(run_script, env):
    source = """
import os, disttask, helpers
with disttask.Executor(1) as executor:
    helpers.wait_idle(executor)
    fds = " ".join(helpers.open_fds().values())
    maps = open(f"/proc/{executor.status()['workers'][0]['pid']}/maps").read()
    print("pidfd" in fds, "disttask-lane" in maps)
"""
    expected = f"{'DISTTASK_NO_PIDFD' not in env} {'DISTTASK_NO_MEMFD' not in env}\n"
    assert run_script(source, env=env).out == expected


@each_mode
def test_a_storm(run_script, env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = """
import os, random, signal, time, disttask, tasks, helpers
kills = 0
with disttask.Executor(2) as executor:
    submit = executor.options(retries=50).submit
    futures = [submit(tasks.logged_sleep, "runs", n, 0.002) for n in range(1000)]
    while not futures[-1].done():
        busy = helpers.workers_in(executor, "busy")
        if busy:
            os.kill(random.choice(busy)["pid"], signal.SIGKILL)
            kills += 1
        time.sleep(0.2)
    print([future.result(timeout=30) for future in futures] == list(range(1000)))
    print(helpers.zombies())
runs = len(tasks.lines("runs"))
print(1000 <= runs <= 1000 + kills, kills > 3)
"""
    assert run_script(source, env=env, timeout=60).out == "True\n[]\nTrue True\n"


@each_mode
def test_kill_9_of_the_host(start_script, env):
    script = start_script(
        """
import disttask, tasks, helpers
executor = disttask.Executor(2)
futures = [executor.submit(tasks.spin) for _ in range(2)]
helpers.wait_busy(executor, 2)
print("busy", flush=True)
futures[0].result()
""",
        env=env,
    )
    script.wait_out("busy")
    script.send(signal.SIGKILL)
    script.wait(5)
