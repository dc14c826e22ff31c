"""The command line: serve, submit, results, status, token; exit statuses, and nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import disttask
import tasks
from helpers import TESTS, children, is_alive, wait_until

DISTTASK = [str(Path(sys.executable).with_name("disttask"))]
OK, FAILED, USAGE, SERVER = 0, 1, 2, 3


class Serving:
    """``disttask serve`` in a process of its own."""

    def __init__(self, home, *options, cwd=None):
        self.home = home
        self.process = subprocess.Popen(
            [*DISTTASK, "serve", "--port", "0", "--workers", "2", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(home),
            cwd=cwd,
        )
        self.greeting = [self.process.stdout.readline(), self.process.stdout.readline()]
        assert self.process.poll() is None
        self.url = re.search(r"http://\S+", self.greeting[0])[0]

    def tree(self):
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def end(self, signum=signal.SIGTERM, timeout=15):
        """Its exit status and the rest of its output; it is killed if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, out, err


def environment(home, **more):
    names = {name: value for name, value in os.environ.items() if not name.startswith("DISTTASK")}
    return {**names, "XDG_STATE_HOME": str(home), "PYTHONPATH": str(TESTS), **more}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def serving(home):
    server = Serving(home)
    yield server
    assert server.end()[0] == 0


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*options):
        started.append(Serving(tmp_path, *options))
        return started[-1]

    yield start
    for server in started:
        server.end()


@pytest.fixture
def run(serving):
    """Runs a command against the server: ``run("status")``; its status must be the one expected."""

    def run(*args, status=OK, url=None, env=None):
        environ = environment(serving.home, DISTTASK_URL=url or serving.url, **(env or {}))
        command = [*DISTTASK, *map(str, args)]
        ended = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30, check=False, cwd=TESTS)
        assert ended.returncode == status, (args, ended)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    return run


def the_error(ended):
    """The one line that says what is wrong."""
    lines = ended.stderr.strip().splitlines()
    assert lines[-1].startswith("Error: "), ended.stderr
    assert ended.stdout == ""
    return lines[-1]


def test_serve_tells_where_it_is(serving):
    assert re.fullmatch(r"disttask serves 2 workers at http://127\.0\.0\.1:\d+\n", serving.greeting[0])
    assert re.fullmatch(r"dashboard: http://127\.0\.0\.1:\d+/login\?token=\S{43}\n", serving.greeting[1])
    token = (serving.home / "disttask" / "token").read_text().strip()
    assert token not in "".join(serving.greeting), "the link is good once; the token stays in its file"
    assert b"token" not in Path(f"/proc/{serving.process.pid}/cmdline").read_bytes()


def test_submit_and_wait(run):
    assert run("submit", "math:hypot", "3", "4", "--wait").stdout.split()[1:] == ["succeeded", "5.0"]
    record = json.loads(run("submit", "math:hypot", "3", "4", "--wait", "--json").stdout)
    assert (record["status"], record["result"]) == ("succeeded", 5.0)


def test_arguments_are_json_or_text(run):
    ended = run("submit", "hostile:echo", '{"a": [1, null, true]}', "--wait", "--json")
    assert json.loads(ended.stdout)["result"] == {"a": [1, None, True]}
    assert json.loads(run("submit", "hostile:echo", "plain text", "--wait", "--json").stdout)["result"] == "plain text"


@pytest.mark.parametrize(
    ("arguments", "given", "note"),
    [
        (["hostile:echo", "-5", "--wait", "--json"], -5, ""),
        (["--wait", "hostile:echo", "-5.5e3", "--priority", "-2", "--json"], -5500.0, ""),
        (["--wait", "--json", "hostile:echo", "--", "-5"], -5, ""),
        (["--wait", "--json", "hostile:echo", "--", "-abc"], "-abc", ""),
        (["--json", "--wait", "hostile:echo", "--", "--wait"], "--wait", "note: --wait stands after --"),
        (["operator:sub", "-5", "3", "--wait", "--json"], -8, ""),
    ],
    ids=str,
)
def test_arguments_may_begin_with_a_dash(run, arguments, given, note):
    ended = run("submit", *arguments)
    assert json.loads(ended.stdout)["result"] == given
    assert note in ended.stderr
    assert bool(note) == ("note" in ended.stderr)


@pytest.mark.parametrize("wrong", ["--retires", "--retires=3", "-x", "-5x"])
def test_a_misspelt_option_is_no_argument(run, wrong):
    error = the_error(run("submit", "hostile:echo", wrong, "3", status=USAGE))
    assert f"No such option '{wrong.partition('=')[0]}'" in error
    assert ("--retries" in error) == ("retires" in wrong)


def test_a_missing_module_is_said_to_be_missing_on_its_side(serving, tmp_path, run):
    error = the_error(run("submit", "nothing_like_it:f", status=USAGE))
    assert "cannot be imported here, where the command runs" in error
    (tmp_path / "only_here.py").write_text("def f(): pass\n")
    ended = run("submit", "only_here:f", "--wait", env={"PYTHONPATH": str(tmp_path)}, status=FAILED)
    assert "No module named 'only_here' (there, in the server's worker" in ended.stdout


def test_submit_now_and_ask_later(run):
    task_id = run("submit", "tasks:add", "1").stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{16}-\d+", task_id)
    assert run("results", task_id, "--wait", "10").stdout.split() == [task_id, "succeeded", "2"]
    other = json.loads(run("submit", "tasks:add", "2", "--json").stdout)["task_id"]
    lines = run("results", other, task_id, "--wait", "10", "--json").stdout.splitlines()
    assert [json.loads(line)["result"] for line in lines] == [3, 2]


def test_all_results_are_shown_without_ids(start, tmp_path):
    server = start("--no-auth")
    client = disttask.Client(server.url, token="")
    ids = [client.submit(abs, number) for number in range(3)]
    client.get_results(ids)
    command = [*DISTTASK, "results", "--json", "--no-auth", "--url", server.url]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=30, check=True)
    assert sorted(json.loads(line)["task_id"] for line in ended.stdout.splitlines()) == sorted(ids)


def test_a_failed_task_is_exit_status_1(run):
    ended = run("submit", "hostile:throw_text", "no luck", "--wait", status=FAILED)
    assert ended.stdout.split(maxsplit=2)[1:] == ["failed", "ValueError: no luck\n"]
    record = json.loads(run("submit", "hostile:throw_text", "no luck", "--wait", "--json", status=FAILED).stdout)
    assert (record["error"]["type"], record["error"]["message"]) == ("ValueError", "no luck")
    assert "in throw_text" in record["error"]["traceback"]
    assert run("results").returncode == OK, "the listing says nothing of one task"


def test_an_unfinished_task_is_exit_status_1(run, tmp_path):
    gate = tmp_path / "gate"
    task_id = run("submit", "tasks:wait_for_file", gate).stdout.strip()
    assert run("results", task_id, status=FAILED).stdout.split()[1] in ("queued", "running")
    gate.touch()
    assert run("results", task_id, "--wait", "10").stdout.split()[1] == "succeeded"


def test_results_that_are_no_json_are_shown(run):
    for call in ("builtins:set", "builtins:complex", "hostile:odd_keys", "hostile:not_finite"):
        record = json.loads(run("submit", call, "--wait", "--json").stdout)
        assert (record["status"], record["result"]) == ("succeeded", None)
        assert record["result_repr"]
        assert run("submit", call, "--wait").stdout.split()[1] == "succeeded"


def test_status(run):
    text = run("status").stdout.splitlines()
    assert re.match(r"queued \d+, running \d+, submitted \d+", text[0])
    assert len(text) == 3
    found = json.loads(run("status", "--json").stdout)
    assert len(found["workers"]) == 2


def test_token_and_link(run, serving):
    token = (serving.home / "disttask" / "token").read_text()
    assert run("token").stdout == token
    link = run("token", "--link").stdout.strip()
    assert re.fullmatch(rf"{serving.url}/login\?token=\S{{43}}", link)
    assert token.strip() not in link


def test_the_token_from_elsewhere(run, serving, tmp_path):
    token = (serving.home / "disttask" / "token").read_text().strip()
    elsewhere = {"XDG_STATE_HOME": str(tmp_path)}
    assert "disttask token" in the_error(run("status", status=SERVER, env=elsewhere))
    run("status", env={**elsewhere, "DISTTASK_TOKEN": token})
    file = tmp_path / "token file"
    file.write_text(token)
    file.chmod(0o600)
    run("status", "--token-file", file, env=elsewhere)
    file.chmod(0o644)
    assert "others can read" in the_error(run("status", "--token-file", file, status=SERVER, env=elsewhere))
    assert "disttask serve" in the_error(run("token", status=SERVER, env=elsewhere))


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["submit", "math"], "MODULE:FUNCTION"),
        (["submit", "math:"], "MODULE:FUNCTION"),
        (["submit", "nothing_like_it:f"], "nothing_like_it"),
        (["submit", "math:nothing_like_it"], "nothing_like_it"),
        (["submit", "math:pi"], "not callable"),
        (["submit", "asyncio:sleep", "1"], "asyncio.run"),
        (["results", "nobody-1"], "nobody-1"),
        (["status", "--url", "nowhere"], "not a server's address"),
        (["serve", "--port", "70000"], "70000"),
        (["serve", "--workers", "0"], "workers"),
        (["results", "--wait", "-1"], "no number of seconds"),
        (["results", "--wait", "nan"], "no number of seconds"),
        (["submit", "math:sqrt", "4", "--retries", "1001"], "1001"),
        (["status", "--url", "http://192.0.2.1:5000"], "say --allow-plaintext"),
        (["serve", "--keep-seconds", "nan"], "no number of seconds"),
        (["serve", "--port", "0", "--host", "0.0.0.0"], "say --allow-plaintext"),
        (["serve", "--port", "0", "--host", "0.0.0.0"], "--tls-cert"),
        (["serve", "--port", "0", "--host", "0.0.0.0", "--no-auth"], "leave --no-auth out"),
        (["serve", "--port", "0", "--host", "0.0.0.0", "--no-auth", "--allow-plaintext"], "token"),
        (["serve", "--tls-cert", __file__], "belong together"),
        (["unknown"], "unknown"),
    ],
    ids=str,
)
def test_wrong_usage_is_exit_status_2(run, args, hint):
    assert hint in the_error(run(*args, status=USAGE))


def test_no_server_is_exit_status_3(run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = the_error(run("status", url=f"http://127.0.0.1:{port}", status=SERVER))
    assert str(port) in error
    assert "disttask serve" in error


def test_a_port_in_use(run, serving):
    port = serving.url.rpartition(":")[2]
    error = the_error(run("serve", "--port", port, status=SERVER))
    assert f"127.0.0.1:{port}" in error
    assert "in use" in error
    assert "--port names another" in error


def test_a_certificate_that_is_none(run):
    error = the_error(run("serve", "--port", "0", "--tls-cert", __file__, "--tls-key", __file__, status=SERVER))
    assert "TLS" in error


def test_a_token_file_that_others_can_read(run, tmp_path):
    file = tmp_path / "token"
    file.write_text("x" * 43)
    file.chmod(0o644)
    assert "others can read" in the_error(run("serve", "--port", "0", "--token-file", file, status=SERVER))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(start, signum):
    before = children()
    server = start()
    wait_until(lambda: len(server.tree()) == 2, 10, "two workers")
    workers = server.tree()
    status, out, err = server.end(signum)
    assert (status, out, err) == (0, "stopping\n", "")
    wait_until(lambda: not any(map(is_alive, workers)), 2, "no worker left")
    assert children() <= before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=5)


def test_it_lets_a_running_task_end_and_drops_the_queue(start, tmp_path):
    server = start("--no-auth")
    assert server.greeting[1] == f"dashboard: {server.url}/\n"
    client = disttask.Client(server.url, token="")
    log = tmp_path / "log"
    for number in range(4):
        client.submit(slow_note, str(log), number)
    wait_until(lambda: client.status()["running"] == 2, 10, "two running")
    assert server.end()[0] == 0
    assert sorted(log.read_text().split()) == ["0", "1"]


def slow_note(path, number):
    time.sleep(0.5)
    with open(path, "a") as file:
        file.write(f"{number}\n")


def test_a_second_ctrl_c_stops_at_once(start):
    server = start("--no-auth")
    client = disttask.Client(server.url, token="")
    client.submit(time.sleep, 60)
    wait_until(lambda: client.status()["running"] == 1, 10, "running")
    workers = server.tree()
    server.process.send_signal(signal.SIGINT)
    said = server.process.stdout.readline()
    assert re.fullmatch(r"stopping: 1 running task may go on for 10 s; another Ctrl-C kills at once\n", said)
    assert client.status()["accepting"] is False, "it answers until the last task has ended"
    status, _, err = server.end(signal.SIGINT, timeout=8)
    assert "Traceback" not in err, err
    assert status == 0
    wait_until(lambda: not any(map(is_alive, workers)), 2, "no worker left")


def test_results_can_be_fetched_until_the_last_task_has_ended(start, tmp_path):
    """The server went first: what was finished, and who waited for the rest, got nothing."""
    server = start("--no-auth")
    client = disttask.Client(server.url, token="")
    done = client.submit(abs, -3)
    client.get_results([done])
    gate = tmp_path / "gate"
    running = [client.submit(tasks.wait_for_file, str(gate), number) for number in range(2)]
    queued = client.submit(abs, -4)
    wait_until(lambda: client.status()["running"] == 2, 10, "two running")
    waited = []
    waiting = threading.Thread(target=lambda: waited.extend(client.get_results(running)))
    waiting.start()
    server.process.send_signal(signal.SIGTERM)
    said = server.process.stdout.readline()
    assert said.startswith("stopping: 2 running tasks may go on for 10 s (1 waiting one is cancelled)")
    assert client.get_results([done])[0]["result"] == 3
    assert client.get_results([queued])[0]["status"] == "cancelled"
    with pytest.raises(disttask.ServerRefused, match="server stops: it takes no more"):
        client.submit(abs, -5)
    gate.touch()
    waiting.join(10)
    assert [record["result"] for record in waited] == [0, 1]
    assert server.end()[0] == 0


def test_modules_of_the_folder_are_found(tmp_path):
    """As with python -m: the server's own folder is of no use to tasks."""
    (tmp_path / "of_this_folder.py").write_text("def double(x):\n    return 2 * x\n")
    server = Serving(tmp_path, "--no-auth", cwd=tmp_path)
    try:
        command = [*DISTTASK, "submit", "of_this_folder:double", "21", "--wait", "--no-auth", "--url", server.url]
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment(tmp_path), timeout=30, check=False, cwd=tmp_path
        )
        assert ended.stdout.split()[1:] == ["succeeded", "42"], ended
    finally:
        server.end()


def test_what_is_kept_can_be_chosen(start):
    server = start("--no-auth", "--keep-results", "2", "--keep-bytes", "100000", "--keep-seconds", "50")
    client = disttask.Client(server.url, token="")
    ids = [client.submit(abs, number) for number in range(3)]
    client.get_results(ids[2:])
    wait_until(lambda: len(client.get_results()) == 2, 10, "two results kept")
    large = client.submit(bytes, 200_000)
    wait_until(lambda: client.status()["totals"]["succeeded"] == 4, 10, "the large one done")
    with pytest.raises(disttask.ResultEvicted, match="at most 100000 are kept"):
        client.get_results([large])
    assert len(client.get_results()) <= 2


def test_options_of_a_task(run, tmp_path):
    ended = run("submit", "tasks:sleep", "60", "--timeout", "0.2", "--wait", status=FAILED)
    assert "TaskTimeout" in ended.stdout
    large = run("submit", "memory_tasks:grow", "2000", "--max-memory", "20000000", "--wait", status=FAILED)
    assert "TaskMemoryExceeded" in large.stdout
    assert re.fullmatch(r"[0-9a-f]{16}-\d+\n", ended.stderr), "the id comes before the wait"
    log = tmp_path / "log"
    assert "survived" in run("submit", "tasks:fail_once", log, "kill", "--retries", "1", "--wait").stdout


def test_a_name_and_tags(run):
    ended = run("submit", "tasks:exit_seven", "--name", "import of May", "--tag", "nightly", "--tag", "x y", "--wait",
                "--json", status=FAILED)  # fmt: skip
    failure = json.loads(ended.stdout)["error"]["failure"]
    assert (failure["name"], failure["tags"]) == ("import of May", ["nightly", "x y"])
    assert "name must have 1 to 255" in the_error(run("submit", "tasks:add", "1", "--name", "", status=USAGE))
    many = [word for number in range(17) for word in ("--tag", str(number))]
    assert "at most 16 tags" in the_error(run("submit", "tasks:add", "1", *many, status=USAGE))


def test_cancel(run, tmp_path):
    gate = tmp_path / "gate"
    held = [run("submit", "tasks:wait_for_file", gate).stdout.strip() for _ in range(2)]
    waiting = run("submit", "tasks:add", "1", "--priority", "-5").stdout.strip()
    assert run("cancel", waiting).stdout.split() == [waiting, "cancelled"]
    gate.touch()
    run("results", *held, "--wait", "10")
    assert "has ended" in run("cancel", waiting, held[0], status=FAILED).stdout
    assert "nobody-1" in the_error(run("cancel", "nobody-1", status=USAGE))


def test_kill(run, tmp_path):
    log = tmp_path / "log"
    endless = run("submit", "tasks:logged_sleep", log, "begun", "3600").stdout.strip()
    wait_until(lambda: tasks.lines(log), 10, "the task begun")
    assert "runs (disttask kill ends it) or has ended" in run("cancel", endless, status=FAILED).stdout
    assert run("kill", endless).stdout.split() == [endless, "cancelled"]
    assert run("kill", endless, status=FAILED).stdout.split(maxsplit=1) == [endless, "has ended\n"]
    assert "nobody-1" in the_error(run("kill", "nobody-1", status=USAGE))


def test_results_wait_for_everything_without_ids(start, tmp_path):
    server = start("--no-auth")
    client = disttask.Client(server.url, token="")
    for number in range(4):
        client.submit(tasks.sleep, 0.3, number)
    command = [*DISTTASK, "results", "--json", "--wait", "20", "--no-auth", "--url", server.url]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path), timeout=30, check=True)
    assert sorted(json.loads(line)["result"] for line in ended.stdout.splitlines()) == [0, 1, 2, 3]


SIGNALLED = """
import os, signal, threading
from disttask._cli import _signals

told = _signals()
turn = threading.Semaphore(1)

def shoot():
    for _ in range(20_000):
        turn.acquire()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)

threading.Thread(target=shoot, daemon=True).start()
for _ in range(20_000):
    assert told.recv(1) == bytes([signal.SIGTERM])
    turn.release()
print("all arrived")
"""


def test_a_signal_at_any_moment_ends_the_wait(start_script):
    """With a `threading.Event` or a queue that a handler sets, this hangs."""
    assert start_script(SIGNALLED).wait(60).out == "all arrived\n"
