"""Exceptions whose classes have an `__init__` of their own: they come as themselves, whatever their `args` are."""

import copyreg
import dataclasses
import errno
import functools
import http.server
import os
import resource
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


class Coded(ExceptionGroup):
    """As the documentation of `derive` has it, with a way of its own through a pickle, which knows of no members."""

    def __new__(cls, message, excs, code):
        made = super().__new__(cls, message, excs)
        made.code = code
        return made

    def __reduce__(self):
        return Coded, (self.message, self.exceptions, self.code)


class Counted(ExceptionGroup):
    """What it is called with is what its `args` are."""

    def __new__(cls, count):
        return super().__new__(cls, f"{count} of them", [Refused(number, "none") for number in range(count)])

    def __init__(self, count):
        super().__init__(count)


@pytest.mark.parametrize("make", [lambda: Coded("coded", [Refused(0, "none")], 7), lambda: Counted(1)])
def test_classes_of_groups(executor, make):
    there, exc = make(), executor.submit(fail_with, make).exception(timeout=20)
    assert (type(exc), exc.message, vars(exc)) == (type(there), there.message, vars(there))
    assert [(type(member), member.status) for member in exc.exceptions] == [(Refused, 0)]
    if type(exc) is Counted:
        assert exc.args == (1,)


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


@pytest.mark.parametrize("kind", [ValueError, AttributeError, OSError])
def test_in_containers(executor, kind):
    def fail():
        exc = kind("several", [HoldsALock("it", 1)])
        exc.more = {"first": (Refused(404, "none"), {"deeper": exc.args[1]})}
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.args[0]) == (kind, "several")
    refused, deeper = exc.more["first"]
    assert (type(refused), refused.status) == (Refused, 404)
    assert deeper["deeper"] is exc.args[1]
    assert (type(exc.args[1][0]), exc.args[1][0].number) == (HoldsALock, 1)


def test_what_is_left_out_is_no_more_than_needs_to_be(executor):
    """Where exceptions refer to each other, a lock in one of them costs nothing but that lock."""

    def fail():
        exc, inner = HoldsALock("it", 3), Refused(1, "inner")
        exc.itself, exc.inner, inner.parent = exc, inner, exc
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert exc.itself is exc.inner.parent is exc
    assert (exc.inner.status, exc.__notes__) == (
        1,
        ["disttask: left in the worker, as they cannot be pickled: lock, thread"],
    )


def test_a_long_chain(executor):
    """As long as pickle itself goes: it takes a C stack frame per exception, and no Python one."""

    def fail():
        exc = ValueError("last")
        for number in range(200):
            exc = ValueError(number, exc)
        raise exc

    exc, length = executor.submit(fail).exception(timeout=20), 0
    while exc.args != ("last",):
        exc, length = exc.args[1], length + 1
    assert length == 200


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


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    """`dataclass` gives it a `__setstate__` that wants all fields in their order."""

    code: int
    why: str = dataclasses.field(default="none", init=False)


class FrozenImport(ImportError):
    """The builtin class has attributes that are in no `__dict__`."""

    def __init__(self, module, *, code):
        super().__init__(f"not {module}", name=module)
        self.__dict__["code"] = code

    def __setattr__(self, name, value):
        raise TypeError("frozen")


@pytest.mark.parametrize("kind", [Frozen, FrozenSlots])
def test_a_class_that_lets_nobody_set_attributes(executor, kind):
    exc = raised(executor, kind, 3)
    assert (type(exc), exc.code, exc.why) == (kind, 3, "none")


def test_one_whose_attributes_are_the_builtin_classs(executor):
    exc = executor.submit(fail_with, functools.partial(FrozenImport, "it", code=3)).exception(timeout=20)
    assert (type(exc), exc.name, exc.code, str(exc)) == (FrozenImport, "it", 3, "not it")


class OwnState(ValueError):
    """A `__setstate__` that knows what it is given."""

    __slots__ = ("code",)

    def __setstate__(self, state):
        assert set(state) == {"known"}
        self.known = f"{state['known']} again"


def test_a_class_with_a_setstate(executor):
    def fail():
        exc = OwnState("why")
        exc.code, exc.known = 3, "known"
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    assert (type(exc), exc.code, exc.known) == (OwnState, 3, "known again")


class Below(Exception):
    __slots__ = ("code",)


class Above(Below):
    __slots__ = ("code",)

    def __init__(self, code, why):
        super().__init__(why)
        self.code = code
        Below.code.__set__(self, -code)


def test_two_slots_of_one_name(executor):
    exc = raised(executor, Above, 3, "why")
    assert (exc.code, Below.code.__get__(exc)) == (3, -3)


class Missing(KeyError, FileNotFoundError):
    """Of two builtin classes the second one has the layout."""

    def __init__(self, path, *, by):
        FileNotFoundError.__init__(self, 2, "gone", path)
        self.by = by


class NoPlugin(ImportError):
    """It could be called with its message, and would make another one of it."""

    def __init__(self, name):
        super().__init__(f"no plugin {name}", name=name)


class Path(OSError):
    def __init__(self, path, why="gone", third=None):
        super().__init__(2, why, path)


@pytest.mark.parametrize(
    "make",
    [functools.partial(Missing, "/here", by="me"), functools.partial(NoPlugin, "it"), functools.partial(Path, "/here")],
    ids=lambda make: make.func.__name__,
)
def test_what_the_builtin_class_holds(executor, make):
    there, exc = make(), executor.submit(fail_with, make).exception(timeout=20)
    assert (type(exc), str(exc), exc.args, vars(exc)) == (type(there), str(there), there.args, vars(there))
    for name in ("errno", "strerror", "filename", "name", "msg"):
        assert getattr(exc, name, None) == getattr(there, name, None)


# --- attributes that cannot be pickled ---


class HoldsALock(Exception):
    def __init__(self, what, number):
        super().__init__(f"{what} holds {number}")
        self.number, self.lock, self.thread = number, threading.Lock(), threading.current_thread()


def test_attributes_that_cannot_be_pickled_stay_behind(executor):
    exc = raised(executor, HoldsALock, "it", 3)
    assert type(exc) is HoldsALock
    assert (str(exc), exc.number) == ("it holds 3", 3)
    assert exc.__notes__ == ["disttask: left in the worker, as they cannot be pickled: lock, thread"]
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


@pytest.mark.parametrize("notes", [["one", 2], ("one",), "one"], ids=str)
def test_notes_of_its_own(executor, notes):
    def fail():
        exc = ValueError("plain")
        exc.lock, exc.__notes__ = threading.Lock(), notes
        raise exc

    exc = executor.submit(fail).exception(timeout=20)
    ours = "disttask: left in the worker, as they cannot be pickled: lock"
    assert exc.__notes__ == [*(["one"] if type(notes) is not str else []), ours]


def test_a_worker_without_a_descriptor_left(make_executor):
    """It cannot import what this takes, and an `OSError` with its number says why."""
    exc = make_executor(1).submit(use_up_descriptors).exception(timeout=20)
    assert (type(exc), exc.errno) == (OSError, errno.EMFILE)


def use_up_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    while True:
        HELD.append(os.open("/dev/null", os.O_RDONLY))


HELD = []


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


class Picky(UnicodeDecodeError):
    """The builtin class would not take its `args`."""

    def __init__(self, why):
        Exception.__init__(self, why)


def test_its_init_is_called_where_nothing_else_works(executor):
    exc = raised(executor, Picky, "why")
    assert (type(exc), exc.args) == (Picky, ("why",))


class Tick(Exception):
    """What a signal handler raises."""


class Ticks(Exception):
    armed = False

    def __init__(self, one, two):
        super().__init__(one)
        self.two = two

    def __setstate__(self, state):
        if Ticks.armed:
            Ticks.armed = False
            signal.raise_signal(signal.SIGUSR1)
        raise TypeError("it refuses")


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
    assert load_exception(data).two == 2


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
