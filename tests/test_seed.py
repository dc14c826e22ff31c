"""The usage examples that the project began with, as they stand but for the import line, against ``disttask serve``."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import wait_until

PORT = "5000"
DISTTASK = str(Path(sys.executable).with_name("disttask"))

SCRIPT = """\
import requests
from tasks import serialize_task

def example_task(x, y):
    return x + y

task = serialize_task(example_task, 3, 4)
response = requests.post('http://127.0.0.1:5000/submit_task', json={"task": task})
print(response.json())
"""
RESULTS = "curl http://127.0.0.1:5000/get_results"
STATUS = "curl http://127.0.0.1:5000/status"


def at(port, text):
    """The text for another port, where 5000 is taken."""
    return text.replace(f":{PORT}/", f":{port}/")


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts ``disttask serve``, on port 5000 if it is free. Gives the port."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DISTTASK_TOKEN", raising=False)
    started = []

    def serve(*options):
        for port in ((), ("--port", "0")):
            command = [DISTTASK, "serve", "--workers", "2", *port, *options]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.append(server)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", server.stdout.readline()):
                return found[1]
            assert "in use" in server.stderr.read()
        raise AssertionError("no port")

    yield serve
    for server in started:
        server.terminate()
        server.communicate(timeout=15)
    assert started[-1].returncode == 0


def shell(command):
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(ended.stdout)


def run_script(folder, source):
    path = folder / "script.py"
    path.write_text(source)
    ended = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def finished(command):
    """What the results line prints, once there is a result: it does not wait by itself."""
    return wait_until(lambda: shell(command)["results"], 10, "a result")


def test_the_examples_as_they_stand(serve, tmp_path):
    port = serve("--no-auth")
    script = at(port, SCRIPT.replace("from tasks import serialize_task", "from disttask import serialize_task"))
    changed = [line for line in script.splitlines() if line not in at(port, SCRIPT).splitlines()]
    assert changed == ["from disttask import serialize_task"], "only the import line is another"
    printed = run_script(tmp_path, script)
    task_id = re.fullmatch(r"\{'task_id': '([0-9a-f]{16}-1)'\}\n", printed)[1]
    (result,) = finished(at(port, RESULTS))
    assert result == {"task_id": task_id, "status": "succeeded", "result": 7, "result_repr": "7"}
    status = shell(at(port, STATUS))
    assert status["totals"]["succeeded"] == 1
    assert len(status["workers"]) == 2


def test_the_examples_with_the_token(serve, tmp_path):
    """The same with one header more; and without it, nothing is let in."""
    port = serve()
    script = at(port, SCRIPT.replace("from tasks import serialize_task", "from disttask import serialize_task"))
    assert "unauthorized" in run_script(tmp_path, script)
    assert shell(at(port, STATUS))["error"] == "unauthorized"

    token = subprocess.run([DISTTASK, "token"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    header = f"headers={{'Authorization': 'Bearer {token}'}}"
    printed = run_script(tmp_path, script.replace('json={"task": task}', f'json={{"task": task}}, {header}'))
    assert "task_id" in printed
    with_token = f'curl -H "Authorization: Bearer $({DISTTASK} token)" '
    (result,) = finished(at(port, RESULTS).replace("curl ", with_token))
    assert result["result"] == 7
    assert shell(at(port, STATUS).replace("curl ", with_token))["totals"]["succeeded"] == 1


def test_a_server_says_at_once_where_it_is(serve):
    began = time.monotonic()
    assert int(serve("--no-auth")) > 0
    assert time.monotonic() - began < 5
