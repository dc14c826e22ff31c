"""Bad requests: each gets its status, a word for programs, a sentence for people. And the description is complete."""

import http.client
import json
import re
import sys
from pathlib import Path

import pytest

import disttask
import tasks
from web import MAX_BODY

pytest_plugins = ["web_fixtures"]

PYTHON = "{}.{}".format(*sys.version_info[:2])
GOOD = {"task": disttask.serialize_task(tasks.add, 1)}
API = Path(__file__).parent.parent / "src" / "api"


def text(*, form="1", python=PYTHON, code="ref", body="QUJD"):
    return {"task": f"disttask-{form};py={python};code={code};name=f;{body}"}


BAD = [
    # 400: not the JSON, or the parameters, that are expected
    ("POST", "/submit_task", b"{", 400, "bad_request", "JSON"),
    ("POST", "/submit_task", b"", 400, "bad_request", "JSON"),
    ("POST", "/submit_task", b"[]", 400, "bad_request", "JSON"),
    ("POST", "/submit_task", b"\xff\xfe", 400, "bad_request", "JSON"),
    ("POST", "/submit_task", b"[" * 50_000, 400, "bad_request", "JSON"),
    ("POST", "/submit_task", {}, 400, "bad_request", "task"),
    ("POST", "/submit_task", {"task": 5}, 400, "bad_request", "string"),
    ("POST", "/submit_task", {**GOOD, "retires": 1}, 400, "bad_request", "retires"),
    (
        "POST",
        "/submit_task",
        {**GOOD, "retries": -1},
        400,
        "bad_request",
        "-1`, expected a whole number from 0 to 65535",
    ),
    ("POST", "/submit_task", {**GOOD, "retries": 10**9}, 400, "bad_request", "1000000000"),
    ("POST", "/submit_task", {**GOOD, "max_memory": 0}, 400, "bad_request", "max_memory must be at least 1 byte"),
    (
        "POST",
        "/submit_task",
        {**GOOD, "max_memory": 1.5},
        400,
        "bad_request",
        "invalid type: number `1.5`, expected a whole number",
    ),
    ("POST", "/submit_task", {**GOOD, "priority": 2**40}, 400, "bad_request", "from -2147483648 to 2147483647"),
    ("POST", "/submit_task", {**GOOD, "timeout": 0}, 400, "bad_request", "timeout"),
    ("POST", "/submit_task", {**GOOD, "timeout": -1.5}, 400, "bad_request", "timeout"),
    ("POST", "/submit_task", {**GOOD, "timeout": "soon"}, 400, "bad_request", 'string "soon", expected a number'),
    ("POST", "/api/v1/tasks", {"tasks": "all"}, 400, "bad_request", "tasks|sequence"),
    ("POST", "/api/v1/tasks", {"tasks": [{"task": ""}] * 10_001}, 413, "too_large", str(MAX_BODY)),
    ("GET", "/get_results?wait=-1", None, 400, "bad_request", "between 0 and 60"),
    ("GET", "/get_results?wait=61", None, 400, "bad_request", "between 0 and 60"),
    ("GET", "/get_results?wait=nan", None, 400, "bad_request", "between 0 and 60"),
    ("GET", "/get_results?wait=soon", None, 400, "bad_request", "wait"),
    ("POST", "/submit_task", {**GOOD, "retries": 1001}, 400, "bad_request", "between 0 and 1000"),
    ("POST", "/submit_task", {**GOOD, "retries": 70000}, 400, "bad_request", "retries: invalid value"),
    ("POST", "/submit_task", {**GOOD, "tags": "x"}, 400, "bad_request", "tags: invalid type"),
    (
        "POST",
        "/api/v1/tasks",
        {"tasks": [GOOD, {**GOOD, "retries": -1}]},
        400,
        "bad_request",
        r"tasks\[1\].retries",
    ),
    (
        "POST",
        "/api/v1/tasks",
        {"tasks": [GOOD, {**GOOD, "timeout": 0}]},
        400,
        "bad_request",
        r"tasks\[1\]: time",
    ),
    ("POST", "/api/v1/tasks", {"tasks": [GOOD, GOOD, {"task": "x"}]}, 422, "invalid_task", r"tasks\[2\]: not a"),
    ("POST", "/submit_task", json.dumps(GOOD).encode() + b"{}", 400, "bad_request", "there is more"),
    ("POST", "/submit_task", [GOOD["task"], 0, 0, None], 400, "bad_request", "an object"),
    ("POST", "/api/v1/tasks", [[GOOD]], 400, "bad_request", "an object"),
    ("POST", "/api/v1/tasks", {"tasks": [[GOOD["task"], 0, 0, None]]}, 400, "bad_request", "an object"),
    ("GET", "/get_results?after=-1", None, 400, "bad_request", "after"),
    ("GET", "/get_results?after=0", None, 400, "bad_request", "after"),
    ("GET", "/get_results?limit=0", None, 400, "bad_request", "between 1 and 1000"),
    ("GET", "/get_results?limit=1001", None, 400, "bad_request", "between 1 and 1000"),
    ("GET", "/api/v1/tasks?limit=0", None, 400, "bad_request", "between 1 and 1000"),
    ("GET", "/proof", None, 400, "bad_request", "nonce"),
    ("GET", "/proof?nonce=0123456789", None, 400, "bad_request", "32 to 128"),
    ("GET", "/proof?nonce=" + "a" * 129, None, 400, "bad_request", "32 to 128"),
    ("GET", "/proof?nonce=" + "%0a" * 40, None, 400, "bad_request", "letters and digits"),
    ("GET", "/get_results?id=5", None, 400, "bad_request", "unknown field `id`"),
    ("GET", "/get_results?ids=" + ",".join(map(str, range(1001))), None, 400, "bad_request", "1000 ids"),
    ("GET", "/api/v1/tasks?limit=many", None, 400, "bad_request", "limit"),
    ("DELETE", "/api/v1/tasks/nobody-1?kill=now", None, 400, "bad_request", "kill"),
    ("DELETE", "/api/v1/tasks/nobody-1?killed=true", None, 400, "bad_request", "unknown field `killed`"),
    # 404: nothing there
    ("GET", "/get_results?ids=nobody-1", None, 404, "unknown_task", "nobody-1"),
    ("GET", "/get_results?ids=%3Cb%3E%22", None, 404, "unknown_task", "<b>"),
    ("GET", "/api/v1/tasks/nobody-1", None, 404, "unknown_task", "nobody-1"),
    ("DELETE", "/api/v1/tasks/nobody-1", None, 404, "unknown_task", "nobody-1"),
    ("DELETE", "/api/v1/tasks/nobody-1?kill=true", None, 404, "unknown_task", "nobody-1"),
    ("GET", "/api/v1/tasks/nobody-1/pickle", None, 404, "unknown_task", "nobody-1"),
    ("POST", "/api/v1/workers/1/restart", None, 404, "unknown_worker", "worker"),
    ("POST", "/api/v1/workers/one/restart", None, 404, "unknown_worker", "worker"),
    ("GET", "/nowhere", None, 404, "not_found", "/openapi.json"),
    ("GET", "/status/", None, 404, "not_found", "/openapi.json"),
    ("GET", "/api/v1/../../status", None, 404, "not_found", "/openapi.json"),
    # 405: another method
    ("DELETE", "/status", None, 405, "method_not_allowed", "method"),
    ("GET", "/submit_task", None, 405, "method_not_allowed", "method"),
    ("FOO", "/submit_task", None, 405, "method_not_allowed", "method"),
    # 413 and 415: bodies
    ("POST", "/submit_task", b"x" * (MAX_BODY + 1), 413, "too_large", str(MAX_BODY)),
    # 422: not a task text
    ("POST", "/submit_task", {"task": ""}, 422, "invalid_task", "serialize_task"),
    ("POST", "/submit_task", {"task": "print('hello')"}, 422, "invalid_task", "serialize_task"),
    ("POST", "/submit_task", text(body="a b"), 422, "invalid_task", "base64"),
    ("POST", "/submit_task", text(body=GOOD["task"].rpartition(";")[2][:-1]), 422, "invalid_task", "base64"),
    ("POST", "/submit_task", text(body=""), 422, "invalid_task", "empty"),
    ("POST", "/submit_task", text(form="2"), 422, "invalid_task", "format 2"),
    ("POST", "/submit_task", text(code="value", python="2.7"), 422, "invalid_task", "Python 2.7"),
    ("POST", "/submit_task", text(code="magic"), 422, "invalid_task", "serialize_task"),
]


def is_sentence(error):
    assert set(error) == {"error", "message"}
    assert re.fullmatch(r"[a-z_]+", error["error"])
    assert len(error["message"].split()) >= 4, error
    assert "Traceback" not in error["message"]
    assert "panicked" not in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word", "hint"),
    BAD,
    ids=[f"{method} {path[:30]} {str(body)[:40]}" for method, path, body, *_ in BAD],
)
def test_each_mistake_is_explained(door, method, path, body, status, word, hint):
    answer = door.call(method, path, body)
    assert (answer.status, answer.json["error"]) == (status, word), answer
    is_sentence(answer.json)
    assert re.search(hint, answer.json["message"]), answer.json


def test_null_is_the_default(door):
    answer = door.call("POST", "/submit_task", {**GOOD, "retries": None, "priority": None, "timeout": None})
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/submit_task", "/api/v1/tasks", "/api/v1/login", "/api/v1/workers/1/restart"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/jsonp"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
    ids=str,
)
def test_only_plain_json_is_taken(door, path, headers):
    answer = door.call("POST", path, GOOD, headers=headers)
    assert (answer.status, answer.json["error"]) == (415, "unsupported_media_type")
    is_sentence(answer.json)


def test_json_may_name_its_charset(door):
    answer = door.call("POST", "/submit_task", GOOD, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status == 200


def test_a_batch_has_a_limit(native, tmp_path):
    from web import native_door

    with native_door(native.executor, tmp_path, max_body=10**7) as roomy:
        answer = roomy.call("POST", "/api/v1/tasks", {"tasks": [{"task": ""}] * 10_001})
        assert (answer.status, answer.json["error"]) == (400, "bad_request")
        assert "10000" in answer.json["message"]


def test_no_log_in_where_no_token_is_asked_for(native, tmp_path):
    from web import native_door

    with native_door(native.executor, tmp_path, no_auth=True) as open_to_all:
        answer = open_to_all.call("POST", "/api/v1/login", {})
        assert (answer.status, answer.json["error"]) == (409, "no_login_needed")
        assert open_to_all.get("/status")["accepting"] is True


# --- the description -------------------------------------------------------------------------------


def described(door):
    paths = door.get("/openapi.json")["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods if method != "parameters"}


def test_the_description_names_every_handler(door):
    written = set()
    for file in API.glob("*.rs"):
        source = re.sub(r"\s+", " ", file.read_text())
        written |= {(m.upper(), p) for m, p in re.findall(r'utoipa::path\( ?(\w+), path = "([^"]+)"', source)}
    assert len(written) >= 14
    assert described(door) == written


def test_the_description_is_true(door):
    """What it names is there, and what it promises as an answer is what comes."""
    task_id = door.submit(tasks.add, 1)
    door.result(task_id)
    document = door.get("/openapi.json")
    assert document["openapi"].startswith("3.")
    assert document["info"]["version"] == disttask.__version__
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            filled = path.replace("{id}", task_id).replace("{pid}", "1")
            body = {"/submit_task": GOOD, "/api/v1/tasks": {"tasks": [GOOD]}}.get(path) if method == "post" else None
            answer = streamed(door, filled) if path.endswith("events") else door.call(method.upper(), filled, body)
            assert str(answer.status) in operation["responses"], (method, path, answer)
            kinds = operation["responses"][str(answer.status)]["content"]
            assert answer.headers["content-type"].split(";")[0] in {kind.split(";")[0] for kind in kinds}, path
            if "application/json" in kinds:
                required = resolve(document, kinds["application/json"]["schema"]).get("required", [])
                assert set(required) <= set(answer.json), (path, answer.body)


def streamed(door, path):
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    try:
        connection.request("GET", door.prefix + path, headers=door.key)
        response = connection.getresponse()
        assert response.readline()
        return response
    finally:
        connection.close()


def resolve(document, schema):
    reference = schema.get("$ref")
    return document["components"]["schemas"][reference.rpartition("/")[2]] if reference else schema


def test_the_description_tells_how_the_door_refuses(door):
    document = door.get("/openapi.json")
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            is_open = path in ("/healthz", "/proof")
            assert operation.get("security") == ([] if is_open else None), path
            wanted = {"403", "421", "431"} if is_open else {"401", "403", "421", "429", "431"}
            assert wanted <= set(operation["responses"]), (method, path)


def test_the_description_of_a_result(door):
    schemas = door.get("/openapi.json")["components"]["schemas"]
    result = schemas["ResultView"]["properties"]
    assert "type" not in result["result"], "any JSON"
    assert (result["pickle"]["format"], set(result["pickle"]["type"])) == ("byte", {"string", "null"})
    assert schemas["Submission"]["properties"]["retries"]["maximum"] == 1000


def test_every_reference_in_the_description_resolves(door):
    document = door.get("/openapi.json")
    found = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))
    assert found
    assert set(found) <= set(document["components"]["schemas"])
