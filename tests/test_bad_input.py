"""Each mistake gets one clear error that says what to do, and the pool goes on."""

import base64
import functools
import io
import pickle
import re
import threading

import pytest

import disttask
from helpers import assert_usable
from tasks import add


def failing(executor, kind, *call):
    """The text of the error that this call ends with; the pool must go on."""
    exc = executor.submit(*call).exception(timeout=20)
    assert type(exc) is kind, repr(exc)
    assert_usable(executor)
    return str(exc)


class FailsToLoad:
    """Pickles well, and raises when it is unpickled."""

    def __init__(self, kind, text):
        self.kind, self.text = kind, text

    def __reduce__(self):
        return _explode, (self.kind, self.text)


def _explode(kind, text):
    raise kind(text)


class LoadsOnlyInWorkers:
    """Its unpickling fails in the host only."""

    def __reduce__(self):
        return _explode, (ValueError, "not in the host")


@pytest.fixture
def default(monkeypatch):
    """A default executor of this test's own."""
    from disttask import _default

    own = _default._Default()
    own.settings = {"max_workers": 1}
    monkeypatch.setattr(_default, "_default", own)
    yield disttask.default_executor
    if own.executor is not None:
        own.executor.shutdown(cancel_futures=True)


def test_an_argument_that_fails_to_load_in_the_worker(executor):
    text = failing(executor, disttask.DeserializationError, add, FailsToLoad(ValueError, "no such thing"))
    assert "ValueError: no such thing" in text
    assert "must be importable" in text
    assert "must unpickle" in text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_whatever_loading_raises(executor, kind):
    exc = executor.submit(add, FailsToLoad(kind, "text")).exception(timeout=10)
    assert exc is not None
    assert_usable(executor, 10)


def test_a_task_that_is_no_pickle(default):
    whole = disttask.serialize_task(add, 1)
    header = whole[: whole.rindex(";") + 1]
    for junk in (b"not a pickle at all", b"\x80\x05", pickle.dumps("no task"), pickle.dumps((1, 2))):
        future = disttask.submit(header + base64.urlsafe_b64encode(junk).decode())
        exc = future.exception(timeout=20)
        assert type(exc) is disttask.DeserializationError, junk
        assert "cannot be loaded in the worker" in str(exc)
    assert_usable(default())


def test_a_function_that_cannot_be_imported_in_the_worker(executor, tmp_path, monkeypatch):
    (tmp_path / "only_here_now.py").write_text("def function():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here_now

    text = failing(executor, disttask.DeserializationError, only_here_now.function)
    assert "No module named 'only_here_now'" in text
    assert "same sys.path as when the executor was made" in text


def test_a_module_that_fails_on_import(executor, tmp_path, monkeypatch):
    (tmp_path / "fails_there.py").write_text(
        "import disttask._handshake as h\nassert not h.in_worker(), 'not in workers'\ndef function(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import fails_there

    exc = executor.submit(fails_there.function).exception(timeout=20)
    assert type(exc) is disttask.DeserializationError


@pytest.mark.parametrize(
    ("args", "kwargs", "part"),
    [
        ((1, threading.Lock()), {}, "argument 2 (of type lock)"),
        ((), {"b": threading.Lock()}, "argument 'b' (of type lock)"),
        ((i for i in range(3)), {}, None),
    ],
)
def test_an_unpicklable_argument_is_named(executor, args, kwargs, part):
    if part is None:
        args, part = (args,), "argument 1 (of type generator)"
    exc = executor.submit(add, *args, **kwargs).exception(timeout=10)
    assert type(exc) is disttask.SerializationError
    assert isinstance(exc, pickle.PicklingError)
    assert part in str(exc)
    assert "build it inside the task" in str(exc)
    assert exc.__cause__ is not None
    with pytest.raises(disttask.SerializationError, match="cannot be pickled"):
        disttask.serialize_task(add, *args, **kwargs)
    assert_usable(executor)


def test_an_unpicklable_function_is_named(executor):
    lock = threading.Lock()

    def captures():
        return lock

    text = failing(executor, disttask.SerializationError, captures)
    assert "the function" in text
    assert "captures" in text


def test_an_unpicklable_result(executor):
    text = failing(executor, disttask.SerializationError, threading.Lock)
    assert "the task returned something that cannot be pickled" in text
    assert "lock" in text


def test_a_result_that_the_host_cannot_load(executor):
    text = failing(executor, disttask.DeserializationError, LoadsOnlyInWorkers)
    assert "the task's result cannot be unpickled here: ValueError: not in the host" in text


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit])
def test_a_result_that_raises_anything_when_loaded(executor, kind):
    """Observed futures are loaded on a thread of ours: that must deliver something, and live on."""
    import concurrent.futures as cf

    future, later = executor.submit(FailsToLoad, kind, "text"), executor.submit(add, 1)
    assert not cf.wait([future, later], timeout=10).not_done
    assert isinstance(future.exception(timeout=0), kind)
    assert later.result(timeout=0) == 2


@pytest.mark.parametrize("workers", [0, -3, 1025])
def test_a_wrong_number_of_workers(workers):
    with pytest.raises(ValueError, match="max_workers must be"):
        disttask.Executor(workers)


@pytest.mark.parametrize("workers", ["2", 2.0, True])
def test_workers_that_are_no_number(workers):
    with pytest.raises(TypeError, match="max_workers must be an int or None"):
        disttask.Executor(workers)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"retries": -1}, ValueError, "retries must be between 0 and"),
        ({"retries": 1.5}, TypeError, "retries must be an int"),
        ({"priority": "high"}, TypeError, "priority must be an int"),
        ({"timeout": 0}, ValueError, "more than 0 seconds, not 0; None means no limit"),
        ({"timeout": float("nan")}, ValueError, "more than 0 seconds"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds or None"),
    ],
)
def test_wrong_options(executor, options, kind, text):
    with pytest.raises(kind, match=text):
        executor.options(**options)
    with pytest.raises(kind, match=text):
        executor.options().options(**options)
    assert_usable(executor, 10)


def test_what_is_not_callable(executor):
    with pytest.raises(TypeError, match="submit needs a callable, not int"):
        executor.submit(3)
    with pytest.raises(TypeError, match="serialize_task needs a callable, not str"):
        disttask.serialize_task("text")
    assert_usable(executor, 10)


def test_calls_after_shutdown(make_executor):
    executor = make_executor(1)
    executor.shutdown()
    mappers = (
        executor.map,
        executor.options(retries=1).map,
        functools.partial(executor.map, chunksize=2),
        executor.amap,
    )
    for call in (executor.submit, executor.options(retries=1).submit, *mappers):
        with pytest.raises(RuntimeError, match=r"after shutdown: make a new Executor"):
            call(abs, [1])
    with pytest.raises(RuntimeError, match=r"after shutdown: make a new Executor"):
        executor.submit(add, threading.Lock())
    assert executor.status()["accepting"] is False


@pytest.mark.parametrize(
    ("serve", "error", "text"),
    [
        ({"port": 70000}, ValueError, "port must be between 0 and 65535"),
        ({"port": "80"}, TypeError, "port must be an int"),
        ({"max_body": 0}, ValueError, "max_body must be between 1"),
        ({"tls": "cert.pem"}, TypeError, "certificate, key"),
        ({"allow_hosts": "example.org"}, TypeError, "example.org'\\]"),
    ],
)
def test_what_cannot_be_served(executor, serve, error, text):
    with pytest.raises(error, match=text):
        executor.serve(**{"port": 0, "no_auth": True} | serve)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"keep_seconds": "x"}, TypeError, "keep_seconds must be a number of seconds, not str"),
        ({"keep_seconds": True}, TypeError, "keep_seconds"),
        ({"keep_seconds": -1}, ValueError, "negative"),
        ({"keep_bytes": 1.5}, TypeError, "keep_bytes must be an int"),
        ({"keep_results": -1}, ValueError, "keep_results must be between 0"),
    ],
)
def test_settings_that_are_none(default, settings, error, text):
    with pytest.raises(error, match=text):
        disttask.configure(**settings)


@pytest.mark.parametrize(("timeout", "error"), [("x", TypeError), (True, TypeError), (0, ValueError), (-1, ValueError)])
def test_a_client_needs_time(timeout, error):
    with pytest.raises(error, match="timeout"):
        disttask.Client("http://127.0.0.1:1", token="", timeout=timeout)


class Within:
    """Is called as a class of ours, and cannot be pickled."""

    def __call__(self):
        """Never."""

    def __reduce__(self):
        raise TypeError("not this one")


def test_an_unpicklable_callable_that_is_called_as_ours(executor):
    text = failing(executor, disttask.SerializationError, Within())
    assert text.startswith("the function Within cannot be pickled, so the task")
    assert "TypeError: not this one" in text


# --- opened files ---


class Holds:
    def __init__(self, held):
        self.held = held


def opened(path, mode="r"):
    return open(path, mode)


@pytest.mark.parametrize("mode", ["r", "w", "r+", "a", "rb", "wb"])
def test_an_opened_file_is_no_argument(executor, tmp_path, mode):
    """Nor does a copy of it go in its place, of which nobody would know."""
    path = tmp_path / "file"
    path.write_text("content")
    with path.open(mode) as file:
        kind = type(file).__name__
        text = failing(executor, disttask.SerializationError, str, file)
        assert text.startswith(f"argument 1 (of type {kind}) cannot be pickled")
        assert re.search(f"TypeError: cannot pickle '(_io\\.)?{kind}' (object|instances)", text)  # since 3.13
        assert "Pass what it is made from (a path" in text
        assert mode.endswith("b") or f"the opened file {str(path)!r}" in text
        failing(executor, disttask.SerializationError, lambda: file.name)
        failing(executor, disttask.SerializationError, str, Holds(file))
        failing(executor, disttask.SerializationError, lambda held: held, Holds(file))
        with pytest.raises(disttask.SerializationError):
            executor.put(file)
        with pytest.raises(disttask.SerializationError):
            disttask.serialize_task(str, file)
        with pytest.raises(disttask.SerializationError):
            list(executor.map(str, [file]))


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_nor_is_it_a_result(executor, tmp_path, mode):
    (tmp_path / "file").touch()
    text = failing(executor, disttask.SerializationError, opened, str(tmp_path / "file"), mode)
    assert "(return its path, or what is in it)" in text


def test_a_text_file_in_memory_travels_with_its_content(executor):
    assert executor.submit(io.StringIO.read, io.StringIO("content")).result(timeout=10) == "content"
    text = failing(executor, disttask.SerializationError, str, io.TextIOWrapper(io.BytesIO()))
    assert "cannot pickle '_io.TextIOWrapper' object" in text


STREAMS = """
import disttask, sys

def say(file, text):
    print(text, file=file)
    return file is getattr(sys, {name!r})

with disttask.Executor(1) as executor:
    future = executor.submit(say, sys.{name}, "from the task")
    assert future.result() and future.output({name!r}) == "from the task\\n"
"""


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_standard_streams_are_the_workers_own_there(run_script, name):
    ended = run_script(STREAMS.format(name=name))
    assert (ended.out, ended.err)[name == "stderr"] == "from the task\n"
