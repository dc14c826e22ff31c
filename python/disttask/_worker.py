"""The worker process's program: take a task, run it, answer. Started by `_handshake.worker_args`."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from . import _handshake, _native
from ._pickling import describe, dump_exception, dumps

if TYPE_CHECKING:
    from types import FrameType, TracebackType


def main() -> None:
    """Serve the host until it says stop. When the host is gone, a native thread ends this process."""
    worker, config = _native.Worker.attach()
    _handshake.enter_worker()
    # The workers' own process group keeps a terminal's Ctrl-C away, but not a task's or a tool's. A handler, not
    # SIG_IGN, which the programs that tasks start would inherit.
    signal.signal(signal.SIGINT, _ignore)
    _dump_stacks_on_crash()
    sys.argv[:] = _handshake.read_config(config)["argv"]
    worker.ready(_handshake.hello())
    pid = os.getpid()
    while (job := worker.next_task()) is not None:
        task, attempt, to_describe, payload = job
        del job
        kind, answer = run(payload, to_describe, pid)
        del payload
        if os.getpid() != pid:
            _leave_forked_child(1 if kind == "error" else 0)
        worker.reply(task, attempt, kind, answer)
        del answer


def run(payload: bytes, to_describe: bool, pid: int) -> tuple[_native.AnswerKind, bytes]:
    """Run one pickled task, in the worker with this pid. Returns the kind of the answer, and the answer."""
    try:
        func, args, kwargs = pickle.loads(payload)
    except BaseException as exc:  # whatever it is, the caller shall know
        return "error", dump_exception("load", exc, _without_own_frame(exc))
    try:
        result = func(*args, **kwargs)
    except BaseException as exc:
        if isinstance(exc, SystemExit) and os.getpid() != pid:
            _leave_forked_child(exc.code)
        return "error", dump_exception("run", exc, _without_own_frame(exc))
    del func, args, kwargs
    try:
        return ("described", describe(result)) if to_describe else ("value", dumps(result).data)
    except BaseException as exc:
        note = f"its result is of type {type(result).__module__}.{type(result).__qualname__}: "
        return "error", dump_exception("dump", exc, exc.__traceback__, note)


def _leave_forked_child(code: object) -> NoReturn:
    """A child that the task forked has come back here: leave as it would have, the answer is its parent's to give."""
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code & 0xFF if isinstance(code, int) else 0 if code is None else 1)


def _without_own_frame(exc: BaseException) -> TracebackType | None:
    tb = exc.__traceback__
    return tb.tb_next if tb is not None and tb.tb_next is not None else tb


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """Ctrl-C is the host's business."""


def _dump_stacks_on_crash() -> None:
    """Let a segmentation fault leave its Python stack on stderr, which the host keeps the end of."""
    import faulthandler

    faulthandler.enable()
