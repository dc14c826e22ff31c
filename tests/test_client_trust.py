"""Whom `Client` trusts: where the token goes, whose answers are unpickled; refusals that arrive as they are."""

import base64
import hashlib
import hmac
import http.client
import json
import pickle
import socket
import urllib.parse

import pytest

import disttask
import hostile
import tasks
from disttask import _transport
from helpers import wait_busy
from test_client import answering
from web import native_door, running_executor

pytest_plugins = ["web_fixtures"]

TOKEN = "a-token-of-the-user-which-lasts-for-ever"


@pytest.fixture(autouse=True)
def _soon(monkeypatch, tmp_path):
    monkeypatch.setattr(_transport, "RETRY_SECONDS", 0.001)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DISTTASK_TOKEN", raising=False)


@pytest.fixture
def client(native):
    return disttask.Client(f"http://127.0.0.1:{native.port}", token=native.token)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "disttask" / "token"
    file.parent.mkdir()
    file.write_text(TOKEN)
    file.chmod(0o600)
    return file


def send_json(handler, body, status=200):
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@pytest.mark.parametrize("proof", ["0" * 64, "", None, 5, "é", TOKEN])
def test_whoever_holds_the_port_gets_no_token(token_file, proof):
    heard = []

    def respond(handler):
        heard.append(str(handler.headers))
        send_json(handler, {"proof": proof})

    with answering(respond) as (url, seen):
        client = disttask.Client(url)
        for ask in (client.status, lambda: client.submit(tasks.add, 1), client.get_results):
            with pytest.raises(disttask.ServerUnproven, match="does not know this token"):
                ask()
    assert {path.partition("?")[0] for _, path in seen} == {"/proof"}
    assert TOKEN not in "".join(heard)
    assert len({path for _, path in seen}) == len(seen), "a new nonce each time"


def test_a_proof_of_the_real_server_cannot_be_passed_on(native):
    """Somebody on another port asks the real server for the proof that was asked for."""

    def pass_on(handler):
        with_host = {"Host": f"127.0.0.1:{native.port}"}  # another name is refused by the real one
        answer = native.call("GET", handler.path, headers=with_host, key=False)
        send_json(handler, answer.json, answer.status)

    with answering(pass_on) as (url, seen), pytest.raises(disttask.ServerUnproven):
        disttask.Client(url, token=native.token).status()
    assert [path.partition("?")[0] for _, path in seen] == ["/proof"]


def test_somebody_else_at_the_other_address_of_this_machine(native):
    """``localhost`` is [::1], too, where the server does not listen: whoever does could pass everything on."""
    with socket.socket(socket.AF_INET6) as listener:
        try:
            listener.bind(("::1", native.port))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        listener.setblocking(False)
        assert disttask.Client(f"http://localhost:{native.port}", token=native.token).status()["accepting"]
        with pytest.raises(BlockingIOError):
            listener.accept()
    answer = native.call("GET", f"/proof?nonce={'a' * 32}", headers={"Host": f"[::1]:{native.port}"}, key=False)
    assert answer.status == 421, "no proof for an address that is not its own"


def test_a_server_at_the_other_address(tmp_path):
    with running_executor(1) as executor:
        try:
            server = executor.serve(host="::1", port=0, token_file=tmp_path / "token")
        except OSError:
            pytest.skip("no IPv6 here")
        for url in (server.url, f"http://localhost:{server.port}"):
            assert disttask.Client(url, token=server.token).status()["accepting"]


def test_nothing_of_an_unproven_server_is_unpickled(tmp_path):
    trap = base64.b64encode(pickle.dumps(hostile.Canary(str(tmp_path / "sprung")))).decode()

    def respond(handler):
        send_json(
            handler,
            {
                "results": [{"task_id": "a", "status": "succeeded", "pickle": trap}],
                "cursor": "x.1",
                "more": False,
                "missed": 0,
            },
        )

    with answering(respond) as (url, _):
        for ids in (["a"], None):
            with pytest.raises(disttask.ServerUnproven, match="not unpickled"):
                disttask.Client(url).get_results(ids)
            assert disttask.Client(url).describe_results(ids)[0]["task_id"] == "a", "as text it may be looked at"
        assert not (tmp_path / "sprung").exists()
        disttask.Client(url, token="").get_results(["a"])
        assert (tmp_path / "sprung").exists(), "the trap works"
        with pytest.raises(TypeError, match="must be a str, not int"):
            disttask.Client(url, token=3)


def test_a_server_without_a_token_is_named_as_such(native, tmp_path):
    with native_door(native.executor, tmp_path, no_auth=True) as door:
        url = f"http://127.0.0.1:{door.port}"
        with pytest.raises(disttask.ServerUnproven, match="asks for no token"):
            disttask.Client(url, token=TOKEN).status()
        assert disttask.Client(url, token="").status()["accepting"]


def test_the_proof_and_the_request_share_a_connection(native, monkeypatch):
    opened = []
    connect = http.client.HTTPConnection.connect
    monkeypatch.setattr(http.client.HTTPConnection, "connect", lambda self: (opened.append(self), connect(self)))
    disttask.Client(f"http://localhost:{native.port}", token=native.token).status()
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("url", "options", "hint"),
    [
        ("http://192.0.2.1:5000", {}, "another machine"),
        ("http://192.0.2.1:5000", {"token": "x"}, "another machine"),
        ("http://localhost.example:5000", {"token": "x"}, "another machine"),
        ("http://127.0.0.1.example:5000", {"token": "x"}, "another machine"),
        ("http://192.0.2.1:5000", {"allow_plaintext": True}, "for servers of this machine"),
        ("http://user:secret@127.0.0.1:5000", {}, "not a server's address"),
        ("http://127.0.0.1:5000", {"token": f"{TOKEN}\nX-Evil: 1"}, "the token given is no token"),
        ("http://127.0.0.1:5000", {"token": " "}, "the token given is no token"),
        ("http://127.0.0.1:5000", {"token": f"{TOKEN} {TOKEN}"}, "the token given is no token"),
        ("http://127.0.0.1:5000", {"token": f"{TOKEN}\u00e9"}, "the token given is no token"),
    ],
)
def test_where_no_token_goes(token_file, url, options, hint):
    with pytest.raises(ValueError, match=hint) as caught:
        disttask.Client(url, **options)
    assert TOKEN not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1", "http://[::1]:5000", "http://localhost:1", "https://box.example"])
def test_where_the_users_token_goes(token_file, url):
    assert disttask.Client(url)._token == TOKEN


def test_a_line_end_in_the_environment(native, monkeypatch):
    monkeypatch.setenv("DISTTASK_TOKEN", f" {native.token}\n")
    assert disttask.Client(f"http://127.0.0.1:{native.port}").status()["accepting"]
    monkeypatch.setenv("DISTTASK_TOKEN", "\n")
    with pytest.raises(ValueError, match="is empty"):
        disttask.Client(f"http://127.0.0.1:{native.port}")
    monkeypatch.setenv("DISTTASK_TOKEN", f"{TOKEN}\nand more")
    with pytest.raises(ValueError, match=r"\$DISTTASK_TOKEN is no token") as caught:
        disttask.Client(f"http://127.0.0.1:{native.port}")
    assert TOKEN not in str(caught.value)


# --- refusals --------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_told_so(client):
    """The server closes before it has read all of it: its answer must not be lost to the broken pipe."""
    for _ in range(5):
        with pytest.raises(disttask.ServerRefused, match="over the limit") as caught:
            client.submit(tasks.add, "x" * 30_000_000)
        assert (caught.value.status, caught.value.error) == (413, "too_large")


def test_a_large_body_without_the_token_is_told_so(native):
    client = disttask.Client(f"http://127.0.0.1:{native.port}", token="")
    for _ in range(5):
        with pytest.raises(disttask.ServerRefused, match="a token is needed") as caught:
            client.submit(tasks.add, "x" * 30_000_000)
        assert caught.value.status == 401


def test_an_answer_before_a_reset_is_read():
    """A server that closes at once, with the body unread: the system answers the rest with a reset."""

    def refuse(handler):
        send_json(handler, {"error": "too_large", "message": "no, thank you"}, 413)
        handler.close_connection = True

    def respond(handler):
        refuse(handler)

    with answering(respond, read_body=False) as (url, _):
        with pytest.raises(disttask.ServerRefused, match="no, thank you"):
            disttask.Client(url, token="").submit(tasks.add, "x" * 30_000_000)


# --- cursors ---------------------------------------------------------------------------------------


def test_all_results_over_several_pages(client, monkeypatch):
    ids = [client.submit(tasks.make_bytes, 2_000_000) for _ in range(14)]
    for task_id in ids:
        assert client.get_results([task_id])[0]["status"] == "succeeded"
    asked = []
    request = disttask.Client._request
    monkeypatch.setattr(
        disttask.Client, "_request", lambda *args, **more: (asked.append(args), request(*args, **more))[1]
    )
    assert {record["task_id"] for record in client.get_results()} >= set(ids)
    assert len(asked) > 1
    asked.clear()
    records = client.get_results([ids[0], *ids, ids[3], f" {ids[1]} "])
    assert [record["task_id"] for record in records] == [ids[0], *ids, ids[3], ids[1]]
    assert all(record["result"] == bytes(2_000_000) for record in records)
    assert len(asked) > 1, "what was left out is asked for again"


def pages(*answers):
    """A server that gives these pages, one after the other."""
    left = list(answers)

    def respond(handler):
        send_json(handler, *left.pop(0))

    return respond


def page(task_id, cursor, *, more, missed=0):
    value = base64.b64encode(pickle.dumps(task_id)).decode()
    results = [{"task_id": task_id, "status": "succeeded", "pickle": value}]
    return ({"results": results, "cursor": cursor, "more": more, "missed": missed},)


def test_a_server_that_is_started_anew_between_two_pages():
    stale = ({"error": "stale_cursor", "message": "another run's"}, 410)
    with answering(pages(page("a", "x.1", more=True), stale, page("b", "y.1", more=False))) as (url, seen):
        records = disttask.Client(url, token="").get_results()
    assert [record["result"] for record in records] == ["b"], "those of the first run are gone with it"
    assert [urllib.parse.parse_qs(path).get("after") for _, path in seen] == [None, ["x.1"], None]


def test_results_dropped_between_two_pages_are_told():
    with answering(pages(page("a", "x.1", more=True, missed=7), page("b", "x.9", more=False, missed=3))) as (url, _):
        with pytest.warns(RuntimeWarning, match="dropped 3 results"):
            records = disttask.Client(url, token="").get_results()
    assert [record["result"] for record in records] == ["a", "b"]


# --- more than submitting --------------------------------------------------------------------------


def test_options_and_batches(client, tmp_path):
    careful = client.options(retries=2, timeout=30, priority=5)
    task_id = careful.submit(tasks.fail_once, str(tmp_path / "log"), "kill")
    assert client.get_results([task_id])[0]["result"] == "survived"
    texts = [disttask.serialize_task(tasks.add, number) for number in range(20)]
    ids = client.submit_many(texts) + careful.submit_many(texts[:1])
    assert [record["result"] for record in client.get_results(ids)] == [*range(1, 21), 1]
    with pytest.raises(disttask.InvalidTask):
        client.submit_many([texts[0], "not a task"])
    with pytest.raises(TypeError, match="task texts"):
        client.submit_many([tasks.add])
    with pytest.raises(ValueError, match="retries"):
        client.options(retries=-1)


def test_cancel_and_restart(tmp_path):
    with running_executor(1) as executor, native_door(executor, tmp_path) as door:
        client = disttask.Client(f"http://127.0.0.1:{door.port}", token=door.token)
        gate = tmp_path / "gate"
        running = client.options(retries=1).submit(tasks.wait_for_file, str(gate), "again")
        wait_busy(executor)  # a worker whose process is just being started has no pid to be named by
        waiting = client.submit(tasks.add, 1)
        (worker,) = client.status()["workers"]
        assert client.cancel(waiting) is True
        assert client.cancel(waiting) is False
        with pytest.raises(disttask.UnknownTask):
            client.cancel("nobody-1")
        assert client.get_results([waiting])[0]["status"] == "cancelled"
        assert client.restart_worker(1) is False
        with pytest.raises(TypeError, match="must be a list of task ids or None, not int"):
            client.get_results(3)
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
            client.get_results([waiting], timeout="1")
        with pytest.raises(TypeError, match="pid must be an int"):
            client.restart_worker(str(worker["pid"]))
        assert client.restart_worker(worker["pid"]) is True
        gate.touch()
        assert client.get_results([running])[0]["result"] == "again"
        assert [one["task_id"] for one in client.get_results(timeout=10)] == [waiting, running]


def test_the_proof_is_what_it_says():
    from disttask._proof import is_proof

    key = hashlib.sha256(b"t").digest()
    right = hmac.new(key, b"disttask-proof-1\0host:1\0nonce", hashlib.sha256).hexdigest()
    assert is_proof(right, "t", "HOST:1", "nonce")
    for token, host, nonce in (("u", "host:1", "nonce"), ("t", "host:2", "nonce"), ("t", "host:1", "other")):
        assert not is_proof(right, token, host, nonce)
