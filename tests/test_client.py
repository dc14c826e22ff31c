"""`disttask.Client`: callables out, values and exceptions back; clear errors where there is no server."""

import contextlib
import http.server
import json
import socket
import threading
import time

import pytest

import disttask
import memory_tasks
import tasks
from disttask import _client, _transport
from helpers import wait_until
from web import native_door, running_executor

pytest_plugins = ["web_fixtures"]


@pytest.fixture
def client(native):
    return disttask.Client(f"http://127.0.0.1:{native.port}", token=native.token)


@pytest.fixture
def soon(monkeypatch):
    """Retry at once."""
    monkeypatch.setattr(_transport, "RETRY_SECONDS", 0.001)


class Odd(Exception):
    """Cannot be rebuilt: it takes two arguments and remembers one."""

    def __init__(self, a, b):
        super().__init__(a)

    def __reduce__(self):
        return Odd, self.args


def test_callables_go_out_and_values_come_back(client):
    offset = 100
    ids = [client.submit(tasks.add, 1, b=5), client.submit(lambda x: {x + offset}, 1), client.submit(complex, 1, 2)]
    assert [record["result"] for record in client.get_results(ids)] == [6, {101}, 1 + 2j]
    assert [record["status"] for record in client.get_results(ids)] == ["succeeded"] * 3
    text = disttask.serialize_task(tasks.add, 1)
    assert client.get_results([client.submit(text)])[0]["result"] == 2
    with pytest.raises(TypeError, match="carries its own arguments"):
        client.submit(text, 1)


def test_exceptions_come_back_as_themselves(client):
    (record,) = client.get_results([client.submit(tasks.fail, FileNotFoundError, 2, "nothing", "here")])
    assert record["status"] == "failed"
    assert isinstance(record["error"], FileNotFoundError)
    assert record["error"].filename == "here"
    assert "in fail" in str(record["error"].__cause__)


def test_what_cannot_be_rebuilt_is_told(client):
    (record,) = client.get_results([client.submit(tasks.fail, Odd, 1, 2)])
    assert isinstance(record["error"], disttask.RemoteError)
    assert record["error"].type_name.endswith("Odd")
    assert "in fail" in record["error"].traceback


def test_a_crash_and_a_timeout_are_told(client, native):
    (record,) = client.get_results([client.submit(tasks.exit_seven)])
    crash = record["error"]
    assert (record["status"], type(crash)) == ("failed", disttask.WorkerCrashed)
    assert (crash.exit_status, crash.signal, crash.attempts, crash.name) == (7, None, 1, "exit_seven")
    assert crash.pid > 0
    assert crash.task == int(record["task_id"].rpartition("-")[2])
    assert "exit_seven" in str(crash)
    (record,) = client.get_results([client.options(retries=1).submit(tasks.kill_myself)])
    assert (record["error"].signal, record["error"].attempts) == (9, 2)
    late = native.submit(tasks.sleep, 60, timeout=0.1)
    with pytest.raises(disttask.TaskTimeout, match="longer than its timeout"):
        raise client.get_results([late])[0]["error"]


def test_how_often_it_was_tried_is_told(client, tmp_path):
    task_id = client.options(retries=3, backoff=0).submit(tasks.die_then_raise, tmp_path / "runs")
    (record,) = client.get_results([task_id])
    (note,) = record["error"].__notes__
    assert note.startswith("disttask: attempt 2 of 4; attempt 1: worker pid ")
    (view,) = client.describe_results([task_id])
    assert view["error"]["message"] == "now"
    assert view["error"]["traceback"].endswith(f"ValueError: now\n{note}\n")


def test_a_limit_on_memory_is_kept_and_told(client, native):
    (record,) = client.get_results([client.options(max_memory=2**24).submit(memory_tasks.grow, 2000)])
    error = record["error"]
    assert (type(error), error.name, error.attempts) == (disttask.TaskMemoryExceeded, "grow", 1)
    assert isinstance(error, MemoryError)
    assert error.memory_limit == 2**24 < error.memory_growth
    (summary,) = [task for task in native.get("/api/v1/tasks")["past"] if task["task_id"] == record["task_id"]]
    assert summary["failure"] == "task_memory_exceeded"
    (record,) = client.get_results([client.options(max_memory=2**80).submit(tasks.add, 1)])
    assert record["result"] == 2
    with pytest.raises(ValueError, match="max_memory must be >= 1"):
        client.options(max_memory=0)


def test_the_evidence_of_a_crash_is_told(client, native):
    task_id = client.options(retries=1).submit(tasks.segfault)
    crash = client.get_results([task_id])[0]["error"]
    assert (crash.exitcode, crash.oom_killed, crash.attempts, len(crash.earlier_attempts)) == (-11, False, 2, 1)
    assert crash.peak_memory > 1 << 20
    assert crash.stack.startswith("Fatal Python error: Segmentation fault")
    assert " in segfault" in str(crash)
    assert crash.stderr == ""
    assert "(SIGSEGV)" in crash.earlier_attempts[0]
    view = native.get(f"/api/v1/tasks/{task_id}")
    assert " in segfault" in view["details"]
    assert "; its peak memory was" in view["summary"]


def test_results_without_ids_and_the_status(client):
    before = client.status()["totals"]["submitted"]
    ids = [client.submit(tasks.add, number) for number in range(3)]
    client.get_results(ids)
    assert client.status()["totals"]["submitted"] == before + 3
    finished = {record["task_id"]: record for record in client.get_results()}
    assert [finished[task_id]["result"] for task_id in ids] == [1, 2, 3]


def test_more_ids_than_fit_one_request(client):
    ids = [client.submit(tasks.add, number) for number in range(2 * _client.IDS_PER_REQUEST + 1)]
    assert [record["result"] for record in client.get_results(ids)] == list(range(1, len(ids) + 1))


def test_the_timeout_is_kept(client, native, tmp_path):
    gate = tmp_path / "gate"
    task_id = client.submit(tasks.wait_for_file, str(gate), "open")
    began = time.monotonic()
    (record,) = client.get_results([task_id], timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert record["status"] in ("queued", "running")
    assert client.get_results([task_id], timeout=0)[0]["status"] in ("queued", "running")
    gate.touch()
    assert client.get_results([task_id])[0]["result"] == "open"


def test_a_long_wait_is_asked_for_in_slices(client, monkeypatch, tmp_path):
    monkeypatch.setattr(_client, "WAIT_SLICE_SECONDS", 0.05)
    gate = tmp_path / "gate"
    task_id = client.submit(tasks.wait_for_file, str(gate), "open")
    asked = []
    exchange = disttask.Client._exchange

    def counted(self, connection, method, path, body, **options):
        asked.append(path)
        if len(asked) == 10:
            gate.touch()
        return exchange(self, connection, method, path, body, **options)

    monkeypatch.setattr(disttask.Client, "_exchange", counted)
    assert client.get_results([task_id])[0]["result"] == "open"
    assert len(asked) >= 10


def test_a_task_is_killed_where_it_runs(client, tmp_path):
    log = tmp_path / "log"
    endless = client.options(retries=5).submit(tasks.logged_sleep, str(log), "begun", 3600)
    wait_until(lambda: tasks.lines(log), 10, "the task begun")
    assert not client.cancel(endless)
    assert client.kill(endless)
    assert client.get_results([endless], timeout=0) == [{"task_id": endless, "status": "cancelled"}]
    assert not client.kill(endless)
    with pytest.raises(disttask.UnknownTask, match="nobody-1"):
        client.kill("nobody-1")
    assert tasks.lines(log) == ["begun"]


def test_errors_of_ids_and_tasks(client):
    with pytest.raises(disttask.UnknownTask, match="nobody-1"):
        client.get_results(["nobody-1"])
    with pytest.raises(disttask.InvalidTask, match="serialize_task"):
        client.submit("not a task")
    with pytest.raises(disttask.SerializationError, match="argument 1"):
        client.submit(tasks.add, threading.Lock())
    with pytest.raises(TypeError, match="one string"):
        client.get_results("abc")


def test_an_evicted_result(tmp_path):
    with running_executor(1, _keep=(1, 2**20, 60.0)) as executor, native_door(executor, tmp_path) as door:
        client = disttask.Client(f"http://127.0.0.1:{door.port}", token=door.token)
        first, second = client.submit(tasks.add, 1), client.submit(tasks.add, 2)
        client.get_results([second])
        with pytest.raises(disttask.ResultEvicted, match=first):
            client.get_results([first])


def test_no_token(native):
    client = disttask.Client(f"http://127.0.0.1:{native.port}", token="")
    with pytest.raises(disttask.ServerRefused, match="disttask token") as caught:
        client.submit(tasks.add, 1)
    assert (caught.value.status, caught.value.error) == (401, "unauthorized")


def test_where_the_token_comes_from(native, monkeypatch, tmp_path):
    url = f"http://127.0.0.1:{native.port}"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(disttask.ServerRefused):
        disttask.Client(url).status()
    monkeypatch.setenv("DISTTASK_TOKEN", native.token)
    assert disttask.Client(url).status()["accepting"]
    monkeypatch.delenv("DISTTASK_TOKEN")
    file = tmp_path / "disttask" / "token"
    file.parent.mkdir()
    file.write_text(native.token)
    file.chmod(0o600)
    assert disttask.Client(url).status()["accepting"]
    file.chmod(0o644)
    with pytest.raises(disttask.TokenFileError):
        disttask.Client(url)


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "ftp://127.0.0.1", "", "http://", "/status"])
def test_not_an_address(url):
    with pytest.raises(ValueError, match="not a server's address"):
        disttask.Client(url)


# --- servers that are none -------------------------------------------------------------------------


@contextlib.contextmanager
def answering(respond, *, read_body=True):
    """A server that answers every request so. Gives its address and the requests."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if read_body:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path))
            respond(self)

        do_POST = do_GET

        def log_message(self, *_args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def with_body(status, body):
    def respond(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b"5", b"null", b'"text"', b"{", b"\xff"])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_not_a_disttask_server(body, status, soon):
    with answering(with_body(status, body)) as (url, seen):
        with pytest.raises(disttask.ServerUnreachable, match="not an answer of a disttask server"):
            disttask.Client(url, token="x").status()
        assert len(seen) <= _transport.TRIES


@pytest.mark.parametrize("answer", [{}, {"results": 5}, {"results": [{}]}, {"task": "x"}])
def test_json_that_is_not_ours(answer, soon):
    with answering(with_body(200, json.dumps(answer).encode())) as (url, _):
        with pytest.raises(disttask.ServerUnreachable, match="not an answer of a disttask server"):
            disttask.Client(url, token="").get_results(["a"], timeout=0)


def hang_up(handler):
    handler.close_connection = True


def test_a_submit_that_may_have_arrived_is_not_repeated(soon):
    with answering(hang_up) as (url, seen):
        client = disttask.Client(url, token="")
        with pytest.raises(disttask.ServerUnreachable, match="may or may not have arrived"):
            client.submit(tasks.add, 1)
        assert [method for method, _ in seen] == ["POST"]
        with pytest.raises(disttask.ServerUnreachable):
            client.status()
        assert len(seen) == 1 + _transport.TRIES


def test_nobody_there(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    waits = []
    monkeypatch.setattr(_transport.time, "sleep", waits.append)
    with pytest.raises(disttask.ServerUnreachable, match=f"127.0.0.1:{port}.*disttask serve"):
        disttask.Client(f"http://127.0.0.1:{port}", token="x").submit(tasks.add, 1)
    assert waits == [_transport.RETRY_SECONDS, 2 * _transport.RETRY_SECONDS], "bounded, and longer each time"


def test_a_server_that_is_stopped_while_the_client_waits(tmp_path, soon):
    with running_executor(1) as executor:
        server = executor.serve(port=0, token_file=tmp_path / "token")
        client = disttask.Client(server.url, token=server.token)
        task_id = client.submit(tasks.wait_for_file, str(tmp_path / "never"))
        wait_until(lambda: executor.status()["running"] == 1, 10, "task running")
        caught = []

        def wait():
            try:
                client.get_results([task_id])
            except disttask.ServerUnreachable as exc:
                caught.append(exc)

        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        server.stop()
        waiting.join(15)
        assert not waiting.is_alive()
        assert "disttask serve" in str(caught[0])
        assert isinstance(caught[0], ConnectionError)


class Refusing:
    def connect(self):
        raise ConnectionRefusedError("not yet")

    def close(self):
        pass


def test_a_server_that_comes_back(client, monkeypatch, soon):
    """A submit that never reached anybody is sent again."""
    connect, tries = disttask.Client._connect, []

    def second_time_lucky(self, wait):
        tries.append(wait)
        return Refusing() if len(tries) == 1 else connect(self, wait)

    monkeypatch.setattr(disttask.Client, "_connect", second_time_lucky)
    task_id = client.submit(tasks.add, 1)
    assert len(tries) == 2
    assert client.get_results([task_id])[0]["result"] == 2


def test_where_the_server_is(native, monkeypatch):
    monkeypatch.setenv("DISTTASK_URL", f"http://127.0.0.1:{native.port}")
    client = disttask.Client(token=native.token)
    assert repr(client) == f"<disttask.Client of http://127.0.0.1:{native.port}>"
    assert client.submit(tasks.add, 1, 2)
    assert repr(disttask.Client("http://localhost:7", token="")) == "<disttask.Client of http://localhost:7>"
    monkeypatch.delenv("DISTTASK_URL")
    assert repr(disttask.Client(token="")) == "<disttask.Client of http://127.0.0.1:5000>"
