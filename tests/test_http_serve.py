"""`Executor.serve`: what it refuses to open, how long it lives, and under which names it answers."""

import contextlib
import gc
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
import weakref

import pytest

import disttask
import tasks
from helpers import wait_idle, wait_until
from web import running_executor

pytest_plugins = ["web_fixtures"]


@pytest.fixture
def executor():
    with running_executor(1) as executor:
        yield executor


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "options", "hint"),
    [
        ("0.0.0.0", {}, "allow_plaintext"),
        ("0.0.0.0", {"no_auth": True}, "a token is needed"),
        ("0.0.0.0", {"no_auth": True, "allow_plaintext": True}, "a token is needed"),
        ("::", {}, "allow_plaintext"),
        ("", {}, "allow_plaintext"),
        ("192.0.2.1", {}, "allow_plaintext"),
        ("no.such.name.invalid", {}, "no.such.name.invalid"),
    ],
    ids=repr,
)
def test_what_is_not_safe_is_not_opened(executor, tmp_path, host, options, hint):
    with pytest.raises(ValueError, match=hint):
        executor.serve(host=host, port=0, token_file=tmp_path / "token", **options)
    assert not (tmp_path / "token").exists()


def test_beyond_loopback_it_is_asked_for_by_name(executor, tmp_path):
    server = executor.serve(host="0.0.0.0", port=0, token_file=tmp_path / "token", allow_plaintext=True)
    assert listens(server.port)
    assert "0.0.0.0" not in server.url
    with pytest.raises(ValueError, match="another machine"):
        disttask.Client(f"http://0.0.0.0:{server.port}", token=server.token)
    client = disttask.Client(f"http://0.0.0.0:{server.port}", token=server.token, allow_plaintext=True)
    with pytest.raises(disttask.ServerRefused) as caught:
        client.status()
    assert caught.value.status == 421, "a browser would take 0.0.0.0 for this machine"


def test_nobody_has_to_hold_it_and_it_ends_with_the_executor(tmp_path):
    executor = disttask.Executor(1)
    port = executor.serve(port=0, token_file=tmp_path / "token").port
    gc.collect()
    assert listens(port)
    executor.shutdown()
    assert not listens(port)


def test_it_ends_with_its_block_and_the_executor_goes_on(executor, tmp_path):
    with executor.serve(port=0, token_file=tmp_path / "token") as server:
        assert listens(server.port)
    assert not listens(server.port)
    server.stop()  # again: nothing happens
    assert executor.submit(pow, 2, 3).result(20) == 8


def test_a_server_that_was_stopped_is_forgotten(executor, tmp_path):
    """Each left its interface behind, to be told of every task that ended."""
    servers = [executor.serve(port=0, token_file=tmp_path / "token") for _ in range(3)]
    assert len(executor._servers) == 3
    gone = [weakref.ref(server) for server in servers]
    for server in servers:
        server.stop()
        assert server.login_url() == f"{server.url}/"
    assert executor._servers == []
    del server, servers
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


@pytest.mark.parametrize("query", ["after", "ids", "events"])
def test_waiting_requests_are_answered_when_it_stops(executor, tmp_path, query):
    server = executor.serve(port=0, token_file=tmp_path / "token")
    client = disttask.Client(server.url, token=server.token)
    task_id = client.submit(tasks.wait_for_file, str(tmp_path / "gate"))
    cursor = client._request("GET", "/get_results")["cursor"]
    path = {
        "after": f"/get_results?after={cursor}&wait=50",
        "ids": f"/get_results?ids={task_id}&wait=50",
        "events": "/api/v1/events",
    }[query]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
        if query == "events":
            response = connection.getresponse()
            assert response.readline() == b"event: picture\n"
            server.stop()
            response.read()  # the stream has an end: anything else raises IncompleteRead
            return
        waiting = threading.Thread(target=server.stop)
        wait_until(lambda: client.status()["running"] == 1, 10, "task running")
        waiting.start()
        answer = json.loads(connection.getresponse().read())
        waiting.join(10)
    assert [one["status"] for one in answer["results"]] == (["running"] if query == "ids" else [])


def test_a_fork_holds_no_connection_open(run_script, tmp_path):
    ended = run_script(
        """
import disttask, os, socket, sys
executor = disttask.Executor(1)
server = executor.serve(port=0, token_file=sys.argv[1])
connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
head = [
    "POST /submit_task HTTP/1.1",
    f"Host: 127.0.0.1:{server.port}",
    f"Authorization: Bearer {server.token}",
    "Content-Type: application/json",
    "Content-Length: 9",
    "Expect: 100-continue",
]
connection.sendall("\\r\\n".join([*head, "", ""]).encode())
assert connection.recv(100).startswith(b"HTTP/1.1 100"), "the server waits for what never comes"
gate = os.pipe()
child = os.fork()
if not child:
    connection.close()
    os.close(gate[1])
    os.read(gate[0], 1)
    os._exit(0)
server.stop()
print(connection.recv(1) == b"")  # a timeout, where the child's copy keeps it open
os.close(gate[1])
os.waitpid(child, 0)
executor.shutdown()
""",
        args=[str(tmp_path / "token")],
    )
    assert ended.out == "True\n"


def test_it_ends_with_the_process(run_script, tmp_path):
    ended = run_script(
        "import disttask, sys; print(disttask.Executor(1).serve(port=0, token_file=sys.argv[1]).port)",
        args=[str(tmp_path / "token")],
    )
    assert not listens(int(ended.out))


def test_a_port_in_use(executor, tmp_path):
    with executor.serve(port=0, token_file=tmp_path / "token") as server:
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            executor.serve(port=server.port, token_file=tmp_path / "token")


def test_a_port_can_be_taken_again_at_once(executor, tmp_path):
    wait_idle(executor)  # a worker between its birth and its exec holds every descriptor of ours, for a moment
    for _ in range(3):
        server = executor.serve(port=0, token_file=tmp_path / "token")
        disttask.Client(server.url, token=server.token).status()
        server.stop()
        with executor.serve(port=server.port, token_file=tmp_path / "token") as again:
            assert again.port == server.port


def test_other_names(executor, tmp_path):
    with executor.serve(port=0, token_file=tmp_path / "token", allow_hosts=["box.example"]) as server:
        for name, status in (("box.example", 200), ("other.example", 421)):
            asked = urllib.request.Request(f"{server.url}/healthz", headers={"Host": f"{name}:{server.port}"})
            try:
                with urllib.request.urlopen(asked, timeout=10) as answer:
                    found = answer.status
            except urllib.error.HTTPError as answer:
                found = answer.code
                answer.close()
            assert found == status, name


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_tls(executor, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        certificate,
        *subject,
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with executor.serve(port=0, token_file=tmp_path / "token", tls=(certificate, key)) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        asked = urllib.request.Request(f"{server.url}/status", headers={"Authorization": f"Bearer {server.token}"})
        with urllib.request.urlopen(asked, timeout=10, context=context) as answer:
            assert answer.status == 200
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert not plain.recv(4096).startswith(b"HTTP"), "nothing in plain text"


def test_a_certificate_of_no_use(executor, tmp_path):
    with pytest.raises(OSError, match=r"TLS cannot be set up.*missing\.pem"):
        executor.serve(port=0, token_file=tmp_path / "token", tls=(tmp_path / "missing.pem", tmp_path / "missing.pem"))
