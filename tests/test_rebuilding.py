"""Exceptions whose classes have an `__init__` of their own: they come as themselves, whatever their `args` are."""

import copyreg
import dataclasses
import functools
import http.server
import signal
import textwrap
import threading
import urllib.error
import urllib.request
from concurrent.futures import ProcessPoolExecutor

import pytest

import disttask
import tasks
from disttask import _pickling
from disttask._loading import load_exception
from disttask._pickling import dump_exception


class Refused(Exception):
    """What code that is not written for pools looks like."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Keyword(Exception):
    def __init__(self, *, code):
        super().__init__("code", code)
        self.code = code


class Looks(Exception):
    """Its argument has attributes, which a text has not."""

    def __init__(self, request):
        super().__init__(f"no answer to {request.real}")


class Formats(Exception):
    """Can be called with its `args`, and makes something else of them."""

    def __init__(self, number):
        super().__init__(f"number {number}")


class Made(Exception):
    def __new__(cls, one, two):
        made = super().__new__(cls, one)
        made.two = two
        return made

    def __init__(self, one, two):
        super().__init__(one)


class Gone(OSError):
    def __init__(self, path, *, by):
        super().__init__(2, "gone", path)
        self.by = by


class NotText(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 0, 1, "on purpose")


class NotThere(AttributeError):
    def __init__(self, owner, name, where):
        super().__init__(f"not {where}", name=name, obj=owner)


class Ends(SystemExit):
    def __init__(self, code, why):
        super().__init__(code)
        self.why = why


def raised(executor, kind, *args, **kwargs):
    return executor.submit(tasks.fail, kind, *args, **kwargs).exception(timeout=20)


def fail_with(make):
    raise make()


@pytest.mark.parametrize(
    "make",
    [
        functools.partial(Refused, 404, {"reason": "none"}),
        functools.partial(Keyword, code=7),
        functools.partial(Looks, 3),
        functools.partial(Formats, 3),
        functools.partial(Made, 1, 2),
        functools.partial(Gone, "/here", by="me"),
        functools.partial(NotText, b"\xff"),
        functools.partial(NotThere, 3, "name", "here"),
        functools.partial(Ends, 3, "done"),
    ],
    ids=lambda make: make.func.__name__,
)
def test_it_comes_as_itself(executor, make):
    there = make()
    exc = executor.submit(fail_with, make).exception(timeout=20)
    assert type(exc) is make.func
    assert (str(exc), exc.args, vars(exc)) == (str(there), there.args, vars(there))
    for name in ("errno", "filename", "start", "reason", "code"):
        assert getattr(exc, name, None) == getattr(there, name, None)
    assert "in fail_with" in str(exc.__cause__)


def test_one_that_the_main_module_defines(run_script):
    script = """
        import disttask

        class Refused(Exception):
            def __init__(self, status, body):
                super().__init__(f"{status}: {body}")
                self.status = status

        def ask():
            raise Refused(404, "none")

        with disttask.Executor(1) as executor:
            try:
                executor.submit(ask).result()
            except Refused as exc:
                print(exc, exc.status)
    """
    assert run_script(textwrap.dedent(script)).out == "404: none 404\n"


def test_as_a_cause(executor):
    def chained():
        try:
            raise Refused(404, "none")
        except Refused as exc:
            raise Keyword(code=1) from exc

    exc = executor.submit(chained).exception(timeout=20)
    assert type(exc) is Keyword
    assert type(exc.__cause__.__cause__) is Refused
    assert exc.__cause__.__cause__.status == 404


def test_in_groups(executor):
    def grouped():
        inner = ExceptionGroup("inner", [Refused(404, "none"), HoldsALock("it", 2)])
        inner.add_note("a note")
        raise BaseExceptionGroup("outer", [inner, Ends(3, "done"), ValueError(1)])

    exc = executor.submit(grouped).exception(timeout=20)
    inner, ends, other = exc.exceptions
    assert (type(exc), type(inner), inner.__notes__) == (BaseExceptionGroup, ExceptionGroup, ["a note"])
    refused, holds = inner.exceptions
    assert (type(refused), refused.status, str(refused)) == (Refused, 404, "404: none")
    assert (type(holds), holds.number, holds.args) == (HoldsALock, 2, ("it holds 2",))
    assert (type(ends), ends.code, ends.why) == (Ends, 3, "done")
    assert (type(other), other.args) == (ValueError, (1,))


def test_the_class_of_a_group(executor):
    """It has its own way, which knows of no way of its members': they are what matters to `except*`."""
    exc = raised(executor, Coded, 7)
    assert type(exc) is ExceptionGroup
    assert [type(member) for member in exc.exceptions] == [Refused]


class Coded(ExceptionGroup):
    def __new__(cls, code):
        return super().__new__(cls, "coded", [Refused(code, "none")])

    def __init__(self, code):
        super().__init__("coded", self.exceptions)

    def __reduce__(self):
        return Coded, (1,), {"pickled": self.exceptions}

    def derive(self, excs):
        return ExceptionGroup(self.message, excs)


# --- exceptions in exceptions ---


class Failed(Exception):
    """As a layer above says it: what was wrong below is an argument, and an attribute."""

    def __init__(self, what, *, below):
        super().__init__(what, below)
        self.below = below


@pytest.mark.parametrize("kind", [Failed, ValueError])
def test_in_the_arguments_and_attributes_of_another(executor, kind):
    def fail():
        below = HoldsALock("it", 2)
        if kind is Failed:
            raise Failed("above", below=below)
        exc = ValueError("above", below)
        exc.below = below
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.args[0], type(exc.below)) == (kind, "above", HoldsALock)
    assert exc.args[1] is exc.below
    assert (exc.below.number, exc.below.args) == (2, ("it holds 2",))
    assert "lock, thread" in exc.below.__notes__[0]


def test_one_that_refers_to_itself(executor):
    def fail():
        exc = Refused(404, "none")
        exc.itself, exc.group = exc, ExceptionGroup("of it", [exc])
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.status) == (Refused, 404)
    assert exc.itself is exc
    assert exc.group.exceptions == (exc,)


class InSlots(Exception):
    __slots__ = ("__hidden", "code", "empty")

    def __init__(self, code, why):
        super().__init__(why)
        self.code, self.__hidden = code, why

    def hidden(self):
        return self.__hidden


def test_slots(executor):
    exc = raised(executor, InSlots, 3, "why")
    assert (type(exc), exc.code, exc.hidden(), exc.args) == (InSlots, 3, "why", ("why",))
    assert not hasattr(exc, "empty")


class OnlySlots(ValueError):
    __slots__ = ("code",)


def test_slots_without_an_init(executor):
    def fail():
        exc = OnlySlots("why")
        exc.code = 3
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.code, exc.args) == (OnlySlots, 3, ("why",))


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    why: str = dataclasses.field(default="none", init=False)


def test_a_class_that_lets_nobody_set_attributes(executor):
    exc = raised(executor, Frozen, 3)
    assert (type(exc), exc.code, exc.why) == (Frozen, 3, "none")


# --- attributes that cannot be pickled ---


class HoldsALock(Exception):
    def __init__(self, what, number):
        super().__init__(f"{what} holds {number}")
        self.number, self.lock, self.thread = number, threading.Lock(), threading.current_thread()


def test_attributes_that_cannot_be_pickled_stay_behind(executor):
    exc = raised(executor, HoldsALock, "it", 3)
    assert type(exc) is HoldsALock
    assert (str(exc), exc.number) == ("it holds 3", 3)
    assert exc.__notes__ == ["disttask: attributes that cannot be pickled are not here: lock, thread"]
    with pytest.raises(AttributeError):
        _ = exc.lock


def test_of_a_plain_exception_as_well(executor):
    def fail():
        exc = ValueError("plain")
        exc.lock, exc.number = threading.Lock(), 3
        exc.add_note("a note")
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.args, exc.number) == (ValueError, ("plain",), 3)
    assert exc.__notes__[0] == "a note"
    assert exc.__notes__[1].endswith("lock")


def test_what_http_says(executor):
    """An `HTTPError` holds the connection. What people ask of it is its code."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.handle_request, daemon=True).start()
    try:
        exc = executor.submit(ask, f"http://127.0.0.1:{server.server_port}/").exception(timeout=20)
    finally:
        server.server_close()
    assert type(exc) is urllib.error.HTTPError
    assert (exc.code, exc.reason, exc.headers["X-Why"]) == (418, "teapot", "tea")


class Refuses(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(418, "teapot")
        self.send_header("X-Why", "tea")
        self.end_headers()

    def log_message(self, *args):
        pass


def ask(url):
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10)


def test_arguments_that_cannot_be_pickled(executor):
    exc = raised(executor, ValueError, threading.current_thread)
    assert type(exc) is ValueError
    exc = executor.submit(fail_with, functools.partial(locked, 1)).exception(timeout=20)
    assert type(exc) is disttask.RemoteError
    assert exc.reason == "cannot be pickled"


def locked(_):
    return ValueError(threading.Lock())


# --- who says how ---


class Registered(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def test_a_way_that_copyreg_knows_is_taken():
    copyreg.pickle(Registered, lambda exc: (Registered, (exc.args[0], "by copyreg")))
    try:
        exc = load_exception(dump_exception("run", Registered(1, 2)))
    finally:
        del copyreg.dispatch_table[Registered]
    assert type(exc) is Registered
    assert exc.args == (1,)


class Says(Exception):
    def __init__(self, one, two):
        super().__init__(one)
        self.two = two

    def __reduce__(self):
        return Says, (*self.args, "by itself")


def test_its_own_way_is_taken(executor):
    assert raised(executor, Says, 1, 2).two == "by itself"


class Counts(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.made_here = [number]


def test_its_init_is_called_where_that_works(executor):
    """As pickle does. What it sets is then what it was."""
    exc = raised(executor, Counts, 3)
    assert (exc.args, exc.made_here) == ((3,), [3])


class Tick(Exception):
    """What a signal handler raises."""


class Ticks(Exception):
    armed = False

    def __init__(self, one, two=None):
        if Ticks.armed:
            Ticks.armed = False
            signal.raise_signal(signal.SIGUSR1)
        if two is None:
            raise TypeError("it wants two")
        super().__init__(one)


def test_what_a_signal_handler_raises_meanwhile_is_no_refusal():
    def tick(*_):
        raise Tick

    data = dump_exception("run", Ticks(1, 2))
    handler = signal.signal(signal.SIGUSR1, tick)
    Ticks.armed = True
    try:
        with pytest.raises(Tick):
            load_exception(data)
    finally:
        signal.signal(signal.SIGUSR1, handler)
    assert type(load_exception(data)) is Ticks


def test_forks_wait_for_its_module(monkeypatch):
    """Another thread may be importing it, as it loads its first such exception."""
    data = dump_exception("run", Refused(404, "none"))
    monkeypatch.setattr(_pickling, "_late", {})
    load_exception(data)
    assert list(_pickling._late) == ["disttask._rebuilding"]


def test_the_standard_pool_breaks_here():
    """Which is why this is worth its room."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(Exception, match=r"terminated abruptly|missing"):
        pool.submit(tasks.fail, Refused, 404, "none").result(timeout=20)
