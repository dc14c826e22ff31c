"""What must not happen: a server that unpickles, listens elsewhere or leaks its token; text that turns into code."""

import base64
import http.client
import os
import pickle
import signal
import sys
from pathlib import Path

import psutil
import pytest

import disttask
import hostile
import tasks
from helpers import wait_until
from payloads import SCRIPTS
from web import Door

pytest_plugins = ["web_fixtures"]

PYTHON = "{}.{}".format(*sys.version_info[:2])

SERVE = """
import pickle, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
found = []
sys.addaudithook(lambda event, args: found.append(args) if event == "pickle.find_class" else None)
import disttask
executor = disttask.Executor(2)
server = executor.serve(port=0, token_file=sys.argv[1])
found.clear()
print(server.port, flush=True)
signal.sigwait({signal.SIGTERM})
print("loaded here:", found, flush=True)
pickle.loads(pickle.dumps(print))
print("the watch works:", found == [("builtins", "print")], flush=True)
executor.shutdown()
"""


@pytest.fixture
def served(start_script, tmp_path):
    """A server in a process of its own, which watches its own unpickling."""
    token_file = tmp_path / "token"
    script = start_script(
        SERVE,
        args=[str(token_file)],
        env={"DISTTASK_TOKEN": "canary-of-the-environment"},
    )
    script.wait_out("\n")
    token = token_file.read_text().strip()
    door = Door(None, int(script.out.split()[0]), token, {"Authorization": f"Bearer {token}"})

    def end():
        script.send(signal.SIGTERM)
        return script.wait(20).out

    return door, script, end


def workers_of(door):
    return {worker["pid"] for worker in door.get("/api/v1/workers")["workers"]}


def text_of(func, *args):
    """A task text made by hand, so that nothing in this process touches the canary."""
    body = base64.urlsafe_b64encode(pickle.dumps((func, args, {}))).decode()
    return f"disttask-1;py={PYTHON};code=ref;name=f;{body}"


def look_everywhere(door, task_id):
    """Ask for everything that shows a task or a result, as curl would."""
    for path in (
        f"/get_results?ids={task_id}&pickle=true",
        "/get_results?pickle=true",
        "/api/v1/tasks",
        f"/api/v1/tasks/{task_id}",
        f"/api/v1/tasks/{task_id}/pickle",
        "/status",
        "/metrics",
    ):
        assert door.call("GET", path).status in (200, 404), path
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    try:
        connection.request("GET", "/api/v1/events", headers=door.key)
        assert connection.getresponse().readline()
    finally:
        connection.close()


def test_nothing_is_unpickled_in_the_server(served, tmp_path):
    door, _, end = served
    sent = tmp_path / "sent"
    workers = workers_of(door)
    for func, args in (
        (hostile.take, (hostile.Canary(str(sent)),)),
        (hostile.give, (str(tmp_path / "given"),)),
        (hostile.give_deep, (str(tmp_path / "given"),)),
        (hostile.throw, (str(tmp_path / "thrown"),)),
    ):
        answer = door.call("POST", "/submit_task", {"task": text_of(func, *args)})
        door.result(answer.json["task_id"])
        look_everywhere(door, answer.json["task_id"])
    many = door.call(
        "POST", "/api/v1/tasks", {"tasks": [{"task": text_of(hostile.take, hostile.Canary(str(sent)))}] * 5}
    )
    for task_id in many.json["task_ids"]:
        assert door.result(task_id)["result"] == "taken"
    pids = {int(line) for line in tasks.lines(sent)}
    assert len(tasks.lines(sent)) == 6
    assert pids <= workers, "a task is loaded by the worker that runs it"
    assert not (tmp_path / "given").exists(), "a result is loaded by nobody"
    assert not (tmp_path / "thrown").exists()
    out = end()
    assert "loaded here: []" in out
    assert "the watch works: True" in out


def test_garbage_for_a_pickle_harms_nobody(served):
    door, _, end = served
    header = text_of(hostile.take).rpartition(";")[0]
    for garbage in (
        b"\x80",
        b"garbage",
        b"\x80\x05N.",
        b"\x80\x05K\x01.",
        b"cos\nsystem\n.",
        b"\x80\x05X\xff\xff\xff\x7f",
    ):
        text = f"{header};{base64.urlsafe_b64encode(garbage).decode()}"
        task_id = door.call("POST", "/submit_task", {"task": text}).json["task_id"]
        found = door.result(task_id)
        assert found["status"] == "failed"
        assert found["error"]["type"] != "disttask.WorkerCrashed"
    assert "loaded here: []" in end()


def listening(pids):
    """Addresses on which one of these processes listens, over any network protocol."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (table.startswith("udp") or fields[3] == "0A"):
                found.add((table, fields[1]))
    return found


def test_one_port_on_loopback_and_no_other(served):
    door, script, _ = served
    for _ in range(2):
        door.result(door.submit(tasks.add, 1))
    tree = [script.pid, *(child.pid for child in psutil.Process(script.pid).children(recursive=True))]
    assert len(tree) >= 3
    assert listening(tree) == {("tcp", f"0100007F:{door.port:04X}")}
    assert listening(tree[1:]) == set(), "workers least of all"


def test_the_token_is_nowhere_but_in_its_file(served):
    door, script, end = served
    door.result(door.submit(tasks.add, 1))
    workers = workers_of(door)
    for pid in workers:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"DISTTASK_TOKEN" not in environment
        assert b"canary-of-the-environment" not in environment
        assert door.token.encode() not in environment
    for pid in (*workers, script.pid):
        assert door.token.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    for path in ("/", "/status", "/openapi.json", "/metrics", "/api/v1/session", "/api/v1/tasks", "/nowhere"):
        answer = door.call("GET", path)
        assert door.token.encode() not in answer.body, path
        assert door.token not in str(answer.headers)
    out = end()
    assert door.token not in out + script.err


# --- text that is code in a page -------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=ascii)
def test_text_stays_data(native, script):
    name = script.replace(";", ":")
    body = base64.urlsafe_b64encode(pickle.dumps((hostile.echo, (script,), {}))).decode()
    text = f"disttask-1;py={PYTHON};code=ref;name={name};{body}"
    good = native.call("POST", "/submit_task", {"task": text}).json["task_id"]
    bad = native.submit(hostile.throw_text, script)
    assert native.result(good)["result"] == script
    assert native.result(bad)["error"]["message"] == script
    one = native.get(f"/api/v1/tasks/{good}")
    assert one["name"] == name
    assert native.get(f"/api/v1/tasks/{bad}")["summary"] == f"ValueError: {script}"
    answer = native.call("GET", "/api/v1/tasks?limit=10")
    assert answer.headers["content-type"] == "application/json"
    assert name in [task["name"] for task in answer.json["past"]]


@pytest.mark.parametrize("script", SCRIPTS[:12], ids=ascii)
def test_a_path_or_query_that_is_code_comes_back_as_json(native, script):
    from urllib.parse import quote

    for path in (
        f"/{quote(script, safe='')}",
        f"/api/v1/tasks/{quote(script, safe='')}",
        f"/get_results?ids={quote(script)}",
    ):
        answer = native.call("GET", path)
        assert answer.status == 404, path
        assert answer.json["message"]


def test_events_cannot_be_forged(native):
    """A name with line breaks stays inside its event."""
    text = "x\n\nevent: forged\ndata: {}\n\n"
    body = disttask.serialize_task(tasks.sleep, 0.0).rpartition(";")[2]
    task = {"task": f"disttask-1;py={PYTHON};code=ref;name={text};{body}"}
    native.result(native.call("POST", "/submit_task", task).json["task_id"])
    connection = http.client.HTTPConnection("127.0.0.1", native.port, timeout=10)
    try:
        connection.request("GET", "/api/v1/events", headers=native.key)
        response = connection.getresponse()
        lines = [response.readline() for _ in range(4)]
    finally:
        connection.close()
    assert lines[0] == b"event: picture\n"
    assert lines[1].startswith(b"data: {")
    assert b"forged" in lines[1], "the name is in there"
    assert lines[2:] == [b"\n", b"event: picture\n"]


def test_the_watch_of_this_module_can_bark(tmp_path):
    """The canary does tell when somebody loads it."""
    path = tmp_path / "loaded"
    pickle.loads(pickle.dumps(hostile.Canary(str(path))))
    assert wait_until(lambda: tasks.lines(path), 5) == [str(os.getpid())]
