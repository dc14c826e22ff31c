"""The door: who is let in at all. On every route and every method, with every kind of key."""

import contextlib
import hashlib
import hmac
import http.client

import pytest

import tasks
from web import read_answer

pytest_plugins = ["web_fixtures"]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")
UNLISTED = {
    "/": {"GET"},
    "/dashboard.js": {"GET"},
    "/dashboard.css": {"GET"},
    "/text.js": {"GET"},
    "/icon.svg": {"GET"},
    "/login": {"GET"},
    "/openapi.json": {"GET"},
}
OPEN = {"/healthz": 200, "/login": 401, "/proof": 400}
"""What they answer to nobody in particular; without a nonce there is no proof."""

READING = ("GET", "HEAD")
REFUSED = (401, 429)


def routes(door):
    """Every path with its methods, and some that are not there."""
    found = {
        path: {method.upper() for method in methods} for path, methods in door.get("/openapi.json")["paths"].items()
    }
    assert "/submit_task" in found
    assert not set(UNLISTED) & set(found)
    return {**found, **UNLISTED, "/nowhere": set(), "/api/v1/": set(), "/healthz/x": set(), "/login/": set()}


def log_in(door):
    """The headers of a browser that has logged in: its cookie."""
    path = door.login_url().partition(f":{door.port}")[2]
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = read_answer(connection.getresponse(), path)
    assert (answer.status, answer.headers["location"]) == (303, "./")
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


def statuses(door, key):
    """What every route answers to every method: ``{(path, method): status}``."""
    task_id = door.submit(tasks.add, 1)
    door.result(task_id)  # one that runs has other answers
    table = {}
    for path in routes(door):
        filled = path.replace("{id}", task_id).replace("{pid}", "1")
        for method in METHODS:
            table[path, method] = door.call(method, filled, headers=key, key=False).status
    assert len(table) >= 22 * len(METHODS)
    return table


@pytest.mark.parametrize("key", ["none", "wrong", "prefix", "suffix", "empty", "twice", "as basic", "as cookie"])
def test_without_the_token_only_health_and_log_in_answer(door, key):
    token = door.token
    headers = {
        "none": {},
        "wrong": {"Authorization": "Bearer wrong"},
        "prefix": {"Authorization": f"Bearer {token[:-1]}"},
        "suffix": {"Authorization": f"Bearer {token}x"},
        "empty": {"Authorization": "Bearer "},
        "twice": {"Authorization": f"Bearer {token}, Bearer {token}"},
        "as basic": {"Authorization": f"Basic {token}"},
        "as cookie": {"Cookie": f"disttask-{door.port}={token}"},
    }[key]
    for (path, method), status in statuses(door, headers).items():
        if path in OPEN and method in READING:
            assert status == OPEN[path], (path, method)
        else:
            assert status in REFUSED, (path, method, status)


def test_with_the_token_every_route_answers(door):
    known = routes(door)
    for (path, method), status in statuses(door, door.key).items():
        wanted = known[path] | ({"HEAD"} if "GET" in known[path] else set())
        if not known[path]:
            assert status == 404, (path, method)
        elif method not in wanted:
            assert status == 405, (path, method)
        elif path == "/login":
            assert status == 401, "the page asks for a one-time token"
        else:
            assert status not in (401, 403, 405, 421, 429), (path, method, status)


def test_a_cookie_alone_only_reads(door):
    cookie = log_in(door)
    with_token = statuses(door, door.key)
    for (path, method), status in statuses(door, cookie).items():
        if method in READING:
            assert status == with_token[path, method], (path, method)
        else:
            assert status == 403, (path, method)


def test_a_cookie_with_its_csrf_header_changes_things(door):
    cookie = log_in(door)
    csrf = door.call("GET", "/api/v1/session", headers=cookie, key=False).json["csrf"]
    task_id = door.submit(tasks.add, 1)
    door.result(task_id)
    for sent, status in ((csrf, 409), (csrf[:-1], 403), ("", 403), (None, 403)):
        headers = cookie if sent is None else {**cookie, "X-Disttask-CSRF": sent}
        assert door.call("DELETE", f"/api/v1/tasks/{task_id}", headers=headers, key=False).status == status, sent
    other = door.call("GET", "/api/v1/session", headers=log_in(door), key=False).json["csrf"]
    headers = {**cookie, "X-Disttask-CSRF": other}
    assert door.call("DELETE", f"/api/v1/tasks/{task_id}", headers=headers, key=False).status == 403, (
        "another session's"
    )
    assert door.call("GET", "/api/v1/session").json == {"csrf": None}, "where a token does, none is needed"


def test_a_login_link_works_once(door):
    path = door.login_url().partition(f":{door.port}{door.prefix}")[2]
    assert door.call("HEAD", path, key=False).status == 401, "a preview of the link does not use it up"
    first = door.call("GET", path, key=False)
    assert first.status == 303
    assert first.headers["location"] == "./", "the token does not stay in the address bar"
    name, *attributes = first.headers["set-cookie"].split("; ")
    assert name.startswith(f"disttask-{door.port}=")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    second = door.call("GET", path, key=False)
    assert (second.status, second.headers["set-cookie"]) == (403, None)
    assert b"one-time" in second.body
    for bad in ("/login?token=", "/login?token=wrong", f"/login?token={door.token}"):
        answer = door.call("GET", bad, key=False)
        assert (answer.status, answer.headers["set-cookie"]) == (403, None), bad


def test_the_token_may_invite_and_old_sessions_end(door):
    first = log_in(door)
    assert door.call("GET", "/status", headers=first, key=False).status == 200
    for _ in range(64):
        path = door.call("POST", "/api/v1/login").json["path"]
        assert door.call("GET", path, key=False).status == 303
    assert door.call("GET", "/status", headers=first, key=False).status == 401


# --- other sites -----------------------------------------------------------------------------------

BAD_HOSTS = [
    "evil.com",
    "evil.com:{port}",
    "localhost.evil.com:{port}",
    "127.0.0.1.evil.com:{port}",
    "127.0.0.1.:{port}",
    "127.0.0.2:{port}",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "2130706433:{port}",
    "127.1:{port}",
    "localhost:1",
    "localhost:0{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.com",
    "127.0.0.1:{port},evil.com",
    "127.0.0.1:{port} evil.com",
    "",
]


def ask(door, *lines, target="/status"):
    """Raw, since http.client would put things right. Returns the status; `None`: cut off."""
    key = [f"{name}: {value}" for name, value in door.key.items()]
    request = [f"GET {target if '://' in target else door.prefix + target} HTTP/1.1", *lines, *key, "Connection: close"]
    answer = door.raw("\r\n".join([*request, "", ""]).encode())
    return answer.status if answer else None


@pytest.fixture(params=["token", "cookie"])
def key(request, door):
    """Either key: the checks of a browser's headers stand before it."""
    if request.param == "token":
        return []
    return [f"Cookie: {log_in(door)['Cookie']}"]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_rebound_host_is_refused(door, key, host):
    assert ask(door, f"Host: {host.format(port=door.port)}", *key) in (400, 421)
    assert ask(door, f"Host: {host.format(port=door.port)}", *key, target="/healthz") in (400, 421), "even there"


def test_one_host_exactly(door, key, kind):
    right = f"Host: 127.0.0.1:{door.port}"
    assert ask(door, right, *key) == 200
    for name in ("localhost", "LocalHost"):
        assert ask(door, f"Host: {name}:{door.port}", *key) == 200, name
    assert ask(door, f"Host: [::1]:{door.port}", *key) == (421 if kind == "native" else 200), "it does not listen there"
    assert ask(door, *key) in (400, 421), "none"
    assert ask(door, right, "Host: evil.com", *key) in (400, 421)
    assert ask(door, "Host: evil.com", right, *key) in (400, 421)
    assert ask(door, right, right, *key) in (400, 421)


def test_an_absolute_address_cannot_replace_the_host(native):
    right = f"127.0.0.1:{native.port}"
    for target, host in ((f"http://evil.com:{native.port}/status", right), (f"http://{right}/status", "evil.com")):
        assert ask(native, f"Host: {host}", target=target) == 421


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.com",
        "http://evil.com:{port}",
        "http://127.0.0.1",
        "http://localhost:{port}",
        "http://127.0.0.1:1",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:{port}.evil.com",
        "http://127.0.0.1:{port}@evil.com",
        "http://x127.0.0.1:{port}",
        "http://127.0.0.1:{port}/",
        "http://127.0.0.1:{port} http://evil.com",
        "127.0.0.1:{port}",
        "",
    ],
)
def test_another_origin_is_refused(door, key, origin):
    host = f"Host: 127.0.0.1:{door.port}"
    assert ask(door, host, f"Origin: {origin.format(port=door.port)}", *key) == 403
    assert ask(door, host, f"Origin: http://127.0.0.1:{door.port}", *key) == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "SAME-ORIGIN", "none, cross-site"])
def test_a_browser_that_comes_from_elsewhere_is_refused(door, key, site):
    host = f"Host: 127.0.0.1:{door.port}"
    assert ask(door, host, f"Sec-Fetch-Site: {site}", *key) == 403
    for ours in ("same-origin", "none"):
        assert ask(door, host, f"Sec-Fetch-Site: {ours}", *key) == 200


def test_no_cors_header_is_ever_sent(door):
    asked = {"Origin": f"http://127.0.0.1:{door.port}", "Access-Control-Request-Method": "POST"}
    for method in ("OPTIONS", "GET"):
        names = {name.lower() for name in door.call(method, "/status", headers=asked).headers}
        assert not [name for name in names if name.startswith("access-control")]


def test_refusals_say_what_to_do(door):
    none = door.call("GET", "/status", key=False)
    assert "a token is needed" in none.json["message"]
    assert none.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xhtml+xml,*/*;q=0.8", "Text/HTML"])
def test_a_person_without_a_key_gets_a_page(door, accept):
    answer = door.call("GET", "/", headers={"Accept": accept}, key=False)
    assert (answer.status, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert b"disttask token --link" in answer.body
    assert answer.headers["www-authenticate"]
    for path in ("/", "/status"):
        assert door.call("GET", path, headers={"Accept": "*/*"}, key=False).json["error"] == "unauthorized"
    assert door.call("GET", "/status", headers={"Accept": accept}, key=False).json["error"] == "unauthorized"


def proof_of(token, host, nonce):
    key = hashlib.sha256(token.encode()).digest()
    message = b"disttask-proof-1\0" + host.encode() + b"\0" + nonce.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def test_the_server_proves_that_it_knows_the_token(door):
    seen = set()
    for name in ("127.0.0.1", "localhost"):
        for nonce in ("a" * 32, "B" * 128):
            host = f"{name}:{door.port}"
            answer = door.call("GET", f"/proof?nonce={nonce}", headers={"Host": host}, key=False)
            assert answer.json == {"proof": proof_of(door.token, host, nonce)}
            seen.add(answer.json["proof"])
    assert len(seen) == 4, "another name, another nonce: another proof"


def test_where_no_token_is_asked_for_there_is_nothing_to_prove(native, tmp_path):
    from web import native_door

    with native_door(native.executor, tmp_path, no_auth=True) as fresh:
        answer = fresh.call("GET", f"/proof?nonce={'a' * 32}")
        assert (answer.status, answer.json["error"]) == (409, "no_token_here")


def ask_again_and_again(door, path, headers):
    """What one connection answers until the server closes it, up to four times."""
    statuses = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)) as connection:
        connection.connect()
        connection.auto_open = 0
        for _ in range(4):
            try:
                connection.request("GET", path, headers=headers)
            except http.client.NotConnected:
                break
            statuses.append(read_answer(connection.getresponse(), path).status)
    return statuses


def test_who_shows_no_token_keeps_no_place(native):
    """Connections are few: whoever has no business here must not hold them open for those who have."""
    assert ask_again_and_again(native, "/status", native.key) == [200] * 4
    assert ask_again_and_again(native, "/status", log_in(native)) == [200] * 4
    assert ask_again_and_again(native, "/healthz", {}) == [200]
    assert ask_again_and_again(native, "/login", {}) == [401]
    assert ask_again_and_again(native, "/status", {}) == [401]
    assert ask_again_and_again(native, "/status", {"Authorization": "Bearer wrong"}) == [401]
    nonce = "a" * 32
    assert ask_again_and_again(native, f"/proof?nonce={nonce}", {}) == [200, 200], "once, to show the token next"


def test_the_eleventh_wrong_token_in_a_second_has_to_wait(native, tmp_path):
    from web import native_door

    with native_door(native.executor, tmp_path) as fresh:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", fresh.port, timeout=10)) as connection:
            answers = []
            for number in range(12):
                connection.request("GET", "/status", headers={"Authorization": f"Bearer wrong{number}"})
                answers.append(read_answer(connection.getresponse(), "/status"))
        assert [answer.status for answer in answers] == [401] * 10 + [429] * 2
        assert answers[-1].json["error"] == "too_many_wrong_tokens"
        assert answers[-1].headers["retry-after"] == "1"
        assert "the token is wrong" in answers[0].json["message"]
        assert fresh.get("/status")["accepting"], "whoever has the right one is not kept out"
