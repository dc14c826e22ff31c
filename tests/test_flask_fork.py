"""The Flask extension, and the server itself, in processes that fork."""

import pytest

FORK = """
import os, sys
from flask import Flask
from disttask.integrations.flask import Disttask
import disttask, tasks

GIVEN = sys.argv[2] == "given"
app = Flask("forks")
app.config.update(DISTTASK_TOKEN_FILE=sys.argv[1], DISTTASK_WORKERS=1)
executor = disttask.Executor(1) if GIVEN else None
extension = Disttask(app, executor, authorize=lambda: True)
assert extension._executor is executor, "nothing is made before it is needed"

def ask(method="GET", path="/status", **more):
    return app.test_client().open(path, method=method, headers={"Host": "127.0.0.1:5000"}, **more)

def pid():
    return ask().json["workers"][0]["pid"]

def works():
    task = {"task": disttask.serialize_task(tasks.add, 1)}
    task_id = ask("POST", "/submit_task", json=task).json["task_id"]
    return ask(path=f"/get_results?ids={task_id}&wait=20").json["results"][0]["result"] == 2

assert works()
ours = pid()
child = os.fork()
if not child:
    if GIVEN:
        answer = ask()
        assert answer.status_code == 503 and answer.json["error"] == "unavailable", answer.text
    else:
        assert works()
        assert pid() != ours, "a child has workers of its own"
        extension.executor.shutdown()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert works()
assert pid() == ours
print("fine")
"""


@pytest.mark.parametrize("which", ["given", "made"])
def test_after_a_fork(run_script, tmp_path, which):
    ended = run_script(FORK, args=[str(tmp_path / "token"), which])
    assert "fine" in ended.out
    assert ("ForkedPoolError" in ended.err) == (which == "given"), "the log says why"


def test_a_child_keeps_no_listening_socket(run_script, tmp_path):
    ended = run_script(
        """
import disttask, os, socket, sys, time
executor = disttask.Executor(1)
server = executor.serve(port=0, token_file=sys.argv[1])
ready, gate = os.pipe(), os.pipe()
child = os.fork()
if not child:
    server.stop()  # not the child's: returns at once
    os.close(gate[1])
    os.write(ready[1], b"x")
    os.read(gate[0], 1)
    os._exit(0)
assert os.read(ready[0], 1) == b"x"
socket.create_connection(("127.0.0.1", server.port)).close()
server.stop()
try:
    socket.create_connection(("127.0.0.1", server.port))
except ConnectionRefusedError:
    print("nobody listens")
os.close(gate[1])
os.waitpid(child, 0)
executor.shutdown()
""",
        args=[str(tmp_path / "token")],
    )
    assert ended.out == "nobody listens\n"
