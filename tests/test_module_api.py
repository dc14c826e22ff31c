"""The module's own functions: `serialize_task`, `submit`, `get_results`, `status`, `configure`."""

import json
import os
import time

import pytest

import disttask
from disttask import _default
from helpers import assert_usable, wait_until
from tasks import add, fail, sleep, wait_for_file


@pytest.fixture
def default(monkeypatch):
    """A default executor of this test's own; call it with settings to configure it."""
    own = _default._Default()
    monkeypatch.setattr(_default, "_default", own)

    def configure(**settings):
        disttask.configure(**{"max_workers": 1, **settings})

    configure()
    yield configure
    if own.executor is not None:
        own.executor.__exit__(KeyboardInterrupt, None, None)


def ids(results):
    return [result["task_id"] for result in results]


# --- serialize_task and submit --------------------------------------------------------------------


def test_a_task_travels_as_text(default):
    text = disttask.serialize_task(add, 1, b=41)
    assert text.isascii()
    assert json.loads(json.dumps({"task": text}))["task"] == text
    assert text.startswith("disttask-1;py=3.")
    assert ";code=ref;name=add;" in text
    future = disttask.submit(text)
    assert isinstance(future, disttask.Future)
    assert future.result(timeout=10) == 42


def test_code_by_value_says_so(default):
    base = 2
    text = disttask.serialize_task(lambda x: x + base, 3)
    assert ";code=value;" in text
    assert disttask.submit(text).result(timeout=10) == 5


def test_callables_are_submitted_as_they_are(default):
    assert disttask.submit(add, 1, b=2).result(timeout=10) == 3
    assert disttask.submit(lambda: "by value").result(timeout=10) == "by value"


def test_a_text_from_another_python(default):
    value = disttask.serialize_task(lambda: 1).replace(";py=3.", ";py=2.", 1)
    with pytest.raises(disttask.InvalidTask, match=r"holds code of Python 2\.\d+, and this is Python 3"):
        disttask.submit(value)
    reference = disttask.serialize_task(add, 1).replace(";py=3.", ";py=2.", 1)
    assert disttask.submit(reference).result(timeout=10) == 2, "by reference, it does not matter"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a task: expected the text that serialize_task"),
        ("hello", "not a task: expected the text that serialize_task.*got 'hello'"),
        ("disttask-9;py=3.11;code=ref;name=f;AAAA", "format 9"),
        ("disttask-1;py=3.11;code=ref;name=f;", "damaged: its body is empty"),
        ("disttask-1;py=3.11;code=ref;name=f;%%%%", "damaged: its body is not base64"),
        ("disttask-1;py=3.11;code=ref;name=f;ä", "damaged: its body is not base64"),
        ("disttask-1;py=3.11;code=ref;name=f;AAA", "damaged: its body is not base64"),
    ],
)
def test_a_text_that_is_no_task(default, text, message):
    with pytest.raises(disttask.InvalidTask, match=message) as caught:
        disttask.submit(text)
    assert isinstance(caught.value, ValueError)
    assert disttask.submit(add, 1).result(timeout=10) == 2


def test_wrong_calls_of_submit(default):
    with pytest.raises(TypeError, match="carries its own arguments"):
        disttask.submit(disttask.serialize_task(add, 1), 2)
    with pytest.raises(TypeError, match="a task text or a callable, not int"):
        disttask.submit(3)
    with pytest.raises(disttask.SerializationError, match="argument 1"):
        disttask.submit(add, (i for i in ()))
    assert disttask.submit(add, 1).result(timeout=10) == 2


def test_what_is_not_there_inside_a_task_is_refused(default):
    def nested():
        return disttask.get_results()

    with pytest.raises(RuntimeError, match=r"inside a task there is disttask.submit"):
        disttask.submit(nested).result(timeout=10)


# --- get_results ----------------------------------------------------------------------------------


def test_results_in_the_order_asked(default):
    futures = [disttask.submit(add, number) for number in range(5)]
    wanted = [futures[3].task_id, futures[0], futures[4].task_id]
    results = disttask.get_results(wanted)
    assert ids(results) == [futures[3].task_id, futures[0].task_id, futures[4].task_id]
    assert [result["result"] for result in results] == [4, 1, 5]
    assert all(set(result) == {"task_id", "status", "result"} for result in results)
    assert disttask.get_results(wanted) == results, "reading does not consume"
    assert futures[3].result() == 4


def test_all_results_in_order_of_completion(default, tmp_path):
    default(max_workers=2)
    first = disttask.submit(wait_for_file, tmp_path / "go")
    second = disttask.submit(add, 1)
    second.result(timeout=10)
    assert ids(disttask.get_results(timeout=0)) == [second.task_id]
    (tmp_path / "go").touch()
    assert ids(disttask.get_results()) == [second.task_id, first.task_id]
    assert ids(disttask.get_results()) == [second.task_id, first.task_id]


def begin_and_wait(folder):
    (folder / "begun").touch()
    return wait_for_file(folder / "go")


def test_each_status(default, tmp_path):
    done, bad = disttask.submit(add, 1), disttask.submit(fail, ValueError, "no")
    crash = disttask.submit(os._exit, 3)
    disttask.get_results([done, bad, crash], timeout=20)
    running = disttask.submit(begin_and_wait, tmp_path)
    wait_until((tmp_path / "begun").exists, 10, "it has begun")
    queued, cancelled = disttask.submit(add, 1), disttask.submit(add, 2)
    assert cancelled.cancel()
    results = disttask.get_results([done, bad, crash, running, queued, cancelled], timeout=0)
    statuses = [result["status"] for result in results]
    assert statuses == ["succeeded", "failed", "failed", "running", "queued", "cancelled"]
    assert results[0]["result"] == 2
    assert isinstance(results[1]["error"], ValueError)
    assert isinstance(results[2]["error"], disttask.WorkerCrashed)
    assert [set(result) for result in results[3:]] == [{"task_id", "status"}] * 3
    (tmp_path / "go").touch()


def test_waiting_up_to_a_timeout(default, tmp_path):
    future = disttask.submit(wait_for_file, tmp_path / "go", "value")
    for asked in (None, [future]):
        started = time.monotonic()
        results = disttask.get_results(asked, timeout=0.3)
        assert 0.3 <= time.monotonic() - started < 2
        assert [result["status"] for result in results] in ([], ["running"])
    (tmp_path / "go").touch()
    (result,) = disttask.get_results([future.task_id])
    assert result["result"] == "value"
    assert disttask.get_results([]) == []


def test_a_dropped_future_keeps_its_result(default):
    task_id = disttask.submit(sleep, 0.1, "kept").task_id
    assert disttask.get_results([task_id]) == [{"task_id": task_id, "status": "succeeded", "result": "kept"}]


def test_unknown_ids(default):
    with disttask.Executor(1) as other:
        foreign = other.submit(add, 1)
        known = disttask.submit(add, 1)
        prefix = known.task_id.rpartition("-")[0]
        for unknown in ("", "nonsense", f"{prefix}-999", f"{prefix}-0", f"{prefix}-x", foreign):
            with pytest.raises(disttask.UnknownTask, match=r"no task .* was submitted") as caught:
                disttask.get_results([known, unknown])
            assert isinstance(caught.value, KeyError)
            assert not str(caught.value).startswith('"')
    with pytest.raises(TypeError, match="must be a list of task ids, not one string"):
        disttask.get_results(known.task_id)
    with pytest.raises(TypeError, match="must be a list of task ids or None, not Future"):
        disttask.get_results(known)
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
        disttask.get_results(timeout="1")
    with pytest.raises(TypeError, match="a task id is a str, not int"):
        disttask.get_results([3])


# --- what is kept ---------------------------------------------------------------------------------


def assert_evicted(*futures):
    for future in futures:
        with pytest.raises(disttask.ResultEvicted, match=r"is not kept any more: .*disttask\.configure"):
            disttask.get_results([future])


def test_kept_by_count(default):
    default(keep_results=3)
    futures = [disttask.submit(add, number) for number in range(5)]
    assert [future.result(timeout=10) for future in futures] == [1, 2, 3, 4, 5]
    assert [result["result"] for result in disttask.get_results()] == [3, 4, 5]
    assert_evicted(*futures[:2])
    assert [result["result"] for result in disttask.get_results(futures[2:])] == [3, 4, 5]


def test_kept_by_bytes(default):
    default(keep_bytes=25_000)
    futures = [disttask.submit(bytes, 10_000) for _ in range(4)]
    assert [len(future.result(timeout=10)) for future in futures] == [10_000] * 4
    assert ids(disttask.get_results()) == [futures[2].task_id, futures[3].task_id]
    assert_evicted(*futures[:2])


def test_kept_by_age(default):
    default(keep_seconds=0.3)
    future = disttask.submit(add, 1)
    assert disttask.get_results([future])[0]["result"] == 2
    wait_until(lambda: disttask.get_results(timeout=0) == [], 5, "too old")
    assert_evicted(future)
    assert future.result() == 2, "the future itself holds its own"


def test_what_has_not_finished_is_never_evicted(default, tmp_path):
    default(keep_results=0)
    future = disttask.submit(wait_for_file, tmp_path / "go")
    assert disttask.get_results([future], timeout=0)[0]["status"] in ("queued", "running")
    (tmp_path / "go").touch()
    future.result(timeout=10)
    assert_evicted(future)


# --- status and configure -------------------------------------------------------------------------


def test_status_is_the_default_executors(default):
    default(max_workers=2)
    status = disttask.status()
    assert len(status["workers"]) == 2
    assert {worker["state"] for worker in status["workers"]} <= {"starting", "idle"}
    assert json.loads(json.dumps(status)) == status
    assert_usable(disttask.default_executor())


def test_configure_comes_first_and_is_checked(default):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        disttask.configure(max_workers=0)
    for bound in ("keep_results", "keep_bytes", "keep_seconds"):
        with pytest.raises(ValueError, match=r"cannot be negative|must be between"):
            disttask.configure(**{bound: -1})
    assert disttask.submit(add, 1).result(timeout=10) == 2
    with pytest.raises(RuntimeError, match=r"running: call disttask\.configure"):
        disttask.configure(max_workers=2)


def test_many_threads_start_one_default_executor(default):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        executors = list(threads.map(lambda _: disttask.default_executor(), range(8)))
    assert len(set(map(id, executors))) == 1


def test_a_text_may_be_a_line_of_a_file(default):
    assert disttask.submit(f"{disttask.serialize_task(abs, -3)}\n").result() == 3
