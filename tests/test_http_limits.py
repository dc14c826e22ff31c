"""Requests that are too large, too many-headed or ambiguous, byte for byte."""

import json
import socket

import pytest

import disttask
import tasks
from web import MAX_BODY, raw_exchange

pytest_plugins = ["web_fixtures"]


def head(door, line, *lines):
    key = [f"{name}: {value}" for name, value in door.key.items()]
    method, path = line.split(" ")
    return "\r\n".join([f"{method} {door.prefix}{path} HTTP/1.1", f"Host: 127.0.0.1:{door.port}", *key, *lines, "", ""])


def post(door, *lines):
    return head(door, "POST /submit_task", "Content-Type: application/json", *lines).encode()


def everything(door, data, timeout=5.0):
    """All that comes back until the server closes the connection."""
    got = b""
    with socket.create_connection(("127.0.0.1", door.port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                got += piece
        except (BrokenPipeError, ConnectionResetError):
            pass
    return got


def test_a_large_body_is_refused_before_it_is_sent(native):
    for length in (MAX_BODY + 1, 10**15, 2**60):
        answer = native.raw(post(native, f"Content-Length: {length}"), timeout=3)
        assert (answer.status, answer.json["error"]) == (413, "too_large"), length
        assert str(MAX_BODY) in answer.json["message"]


def test_what_follows_a_refusal_is_read_for_a_moment(native):
    """Closing at once would reset the connection, and a reset can overtake the refusal."""
    with socket.create_connection(("127.0.0.1", native.port), timeout=10) as connection:
        connection.sendall(post(native, "Content-Length: 8000000") + b"x" * 8_000_000)  # no broken pipe
        answer = raw_exchange(connection, b"")
    assert (answer.status, answer.json["error"]) == (413, "too_large")


def test_the_largest_body_is_taken(door):
    whole = json.dumps({"task": disttask.serialize_task(tasks.add, 1)}).encode()
    padded = whole.ljust(MAX_BODY)
    assert door.call("POST", "/submit_task", padded).status == 200
    assert door.call("POST", "/submit_task", padded + b" ").status == 413


def test_a_chunked_body_is_cut_at_the_limit(door):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        data = post(door, "Transfer-Encoding: chunked", "Connection: close") + chunk * 4 + b"0\r\n\r\n"
        answer = raw_exchange(connection, data)
    assert (answer.status, answer.json["error"]) == (413, "too_large")


def test_a_chunked_body_is_taken(door):
    whole = json.dumps({"task": disttask.serialize_task(tasks.add, 1)}).encode()
    chunks = b"".join(
        f"{len(whole[at : at + 7]):x}\r\n".encode() + whole[at : at + 7] + b"\r\n" for at in range(0, len(whole), 7)
    )
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as connection:
        data = post(door, "Transfer-Encoding: chunked", "Connection: close") + chunks + b"0\r\n\r\n"
        answer = raw_exchange(connection, data)
    assert answer.status == 200
    assert door.result(answer.json["task_id"])["result"] == 2


def test_without_the_token_no_body_is_waited_for(native):
    data = f"POST /submit_task HTTP/1.1\r\nHost: 127.0.0.1:{native.port}\r\nContent-Length: 50000\r\n\r\n".encode()
    assert everything(native, data).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("order", ["length first", "chunked first"])
def test_a_second_request_cannot_be_smuggled(native, order):
    lines = ["Content-Length: 4", "Transfer-Encoding: chunked"]
    before = native.get("/status")["totals"]["submitted"]
    body = json.dumps({"task": disttask.serialize_task(tasks.add, 1)}).encode()
    inner = post(native, f"Content-Length: {len(body)}") + body
    data = post(native, *(lines if order == "length first" else lines[::-1])) + b"2\r\n{}\r\n0\r\n\r\n" + inner
    got = everything(native, data)
    assert got.count(b"HTTP/1.1 ") == 1
    assert got.startswith(b"HTTP/1.1 400 ")
    assert native.get("/status")["totals"]["submitted"] == before


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 2", "Content-Length: 3"],
        ["Content-Length: 2, 2"],
        ["Content-Length: +2"],
        ["Content-Length: -1"],
        ["Content-Length: 0x2"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length : 2"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity"],
        ["X-Folded: a", " b"],
        ["X-Nul: a\0b"],
    ],
    ids=repr,
)
def test_what_can_be_read_in_two_ways_is_refused(native, lines):
    got = everything(native, post(native, *lines) + b"{}")
    assert got.startswith(b"HTTP/1.1 400 "), got[:80]
    assert got.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("what", ["http2", "tls", "nothing like it"])
def test_another_protocol_is_cut_off(native, what):
    data = {
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01",
        "nothing like it": b"HELO x\r\n\r\n",
    }
    got = everything(native, data[what])
    assert got[:13] in (b"", b"HTTP/1.1 400 ")


def test_too_many_headers(native):
    for count in (101, 100_000):
        got = everything(native, head(native, "GET /status", *["X: 1"] * count).encode())
        assert got.startswith(b"HTTP/1.1 431 ") or (got == b"" and count > 1000), got[:40]
    assert native.get("/status")["accepting"]


def test_a_head_a_little_too_large_is_told_so(native):
    for data in (
        head(native, "GET /status", "X: " + "x" * 66_000),
        head(native, "GET /status?" + "x" * 64_000, "X: " + "x" * 3000),
    ):
        answer = native.raw(data.encode())
        assert (answer.status, answer.json["error"]) == (431, "head_too_large")
        assert answer.headers["content-security-policy"]
    fits = native.raw(head(native, "GET /status", "X: " + "x" * 60_000).encode())
    assert fits.status == 200


def test_too_large_headers(native):
    for data in (
        head(native, "GET /status", "X: " + "x" * 300_000),
        head(native, "GET /status?" + "x" * 300_000),
        head(native, "GET /status", *[f"X: {'x' * 3000}"] * 99),
    ):
        got = everything(native, data.encode())
        assert got[:13] in (b"", b"HTTP/1.1 431 ", b"HTTP/1.1 414 "), got[:40]
    assert native.get("/status")["accepting"]
