"""The worker process's program: take a task, run it, answer. Started by `_handshake.worker_args`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` adds enumerations, and 2 ms
import gc
import os
import sys
from _pickle import loads
from _weakref import ref

from . import _handshake, _inputs, _lean, _native, _sharing, _streams
from ._options import Guarded as Guarded
from ._pickling import brief, described, dump_exception, dumps, finish_imports, importing, result_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn


def main() -> None:
    """Serve the host until it says stop. When the host is gone, a native thread ends this process."""
    worker, nest, data, descriptors = _native.Worker.attach()
    config = _handshake.read_config(data)
    _handshake.enter_worker(nest, config["pool"], config["depth"])
    # The workers' own process group keeps a terminal's Ctrl-C away, but not a task's or a tool's. A handler, not
    # SIG_IGN, which the programs that tasks start would inherit.
    _signal.signal(_signal.SIGINT, _ignore)
    sys.argv[:] = config["argv"]
    if config["capture_output"]:
        _streams.capture(worker)
    if config["log_levels"] is not None:
        _streams.forward_logging(worker, config["log_levels"])
    _show_stacks(worker)
    _tell_of_soft_timeouts(worker)
    if config["warnings"] is not None:
        from . import _filters

        _filters.adopt(config["warnings"])
    _handshake.context = config["context"]
    _sharing.join(config["authkey"], descriptors, config["tracker"])
    os.register_at_fork(
        before=_native.before_fork,
        after_in_parent=_native.after_fork_in_parent,
        after_in_child=_native.after_fork_in_child,  # the loop asks whether it is still in this process
    )
    os.register_at_fork(before=finish_imports)  # which runs before what was registered before it
    _inputs.load = worker.input
    gc.freeze()  # what is here stays: no collection in a task need look at it
    if _lean.collects:
        gc.enable()
    finalizer = None
    if config["initialize"] is not None or config["preload"]:
        why, finalizer = _prepare(config["preload"], config["initialize"])
        worker.flush()  # what it has printed belongs to no task
        if why:
            worker.ready(_handshake.UNFIT + why.encode(errors="backslashreplace"))
            return  # the host ends the pool
    worker.ready(_handshake.hello())
    worker.serve(sys.modules[__name__])
    if finalizer is not None:
        _finalize(finalizer)
        worker.flush()


def _prepare(preload: list[str], pickled: bytes | None) -> tuple[str, Callable[[], object] | None]:
    """Import, and call the initializer. What was wrong with that, if anything, and the finalizer, if there is one."""
    name = ""
    try:
        for name in preload:
            __import__(name)
        name = ""
        initializer, initargs, finalizer = (None, (), None) if pickled is None else loads(pickled)
        if initializer is not None:
            from . import _globals  # few workers need it, and it takes time to import

            with _globals.kept(initializer):
                initializer(*initargs)
    except BaseException as exc:
        import logging

        # Where `ProcessPoolExecutor` says it, too; but in one line, for `PoolBroken` has the traceback.
        what = f"import of {name}" if name else "initializer"
        logging.getLogger("concurrent.futures").critical("Exception in %s: %s", what, brief(exc))
        failed = f"the import of {name}, which preload names, failed" if name else "its initializer failed"
        return f"{failed}\n{described(exc)}", None
    return "", finalizer


def _finalize(finalizer: Callable[[], object]) -> None:
    try:
        finalizer()
    except BaseException:
        import traceback

        print(f"disttask: the finalizer failed in worker pid {os.getpid()}:", file=sys.stderr)
        traceback.print_exc()


# --- what the native loop asks for ---------------------------------------------------------------------------------

load = loads


def dump(result: object) -> bytes:
    """The pickle of what a task returned."""
    return dumps(result).data


def describe(result: object) -> bytes:
    """The same, and what can be shown of it without unpickling it."""
    importing("disttask._described")
    from . import _described

    return _described.describe(result)


def dump_chunk(errors: list[tuple[int, bytes]], values: list[object], pickles: list[tuple[int, bytes]]) -> bytes:
    """What became of the items of a chunk: errors by index, plain values, the pickles of the others by index."""
    return dumps((errors, values, pickles)).data


def error(stage: str, exc: BaseException, result: object) -> bytes:
    """Describe what a task raised, or what loading or pickling (`result`) did."""
    return error_and_hits(stage, exc, result)[0]


def error_and_hits(stage: str, exc: BaseException, result: object) -> tuple[bytes, list[BaseException]]:
    """The same, with what signal handlers have raised meanwhile."""
    hits: list[BaseException] = []
    return dump_exception(stage, exc, result_note(result) if stage == "dump" else "", hits), hits


def leave_child(exc: BaseException | None) -> NoReturn:
    """A child that the task forked has come back here: leave as it would have, the answer is its parent's to give."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        pass
    status = 1
    try:
        # Not `isinstance`, which asks the exception.
        code = exc.code if issubclass(type(exc), SystemExit) else 0 if exc is None else 1  # type: ignore[union-attr]
        status = code & 0xFF if isinstance(code, int) else 0 if code is None else 1
    finally:
        os._exit(status)


def _ignore(_signum: int, _frame: FrameType | None) -> None:
    """Ctrl-C is the host's business."""


def _show_stacks(worker: _native.Worker) -> None:
    """To the host: when a fatal signal comes (it knows which process writes), and of a running task to whoever asks."""
    import faulthandler

    faulthandler.enable(worker.stack_fd())
    faulthandler.register(_native.stack_signal(), worker.stack_fd(), all_threads=True)


_told: ref[BaseException] | None = None
"""The last soft time-out that was raised here."""


def is_told(exc: BaseException) -> bool:
    """Whether this is the soft time-out of the task that the loop runs: a part of it that it waits for may raise it."""
    return _told is not None and _told() is exc


def _tell_of_soft_timeouts(worker: _native.Worker) -> None:
    def look(_signum: int, _frame: FrameType | None) -> None:
        """The signal only says that it is worth to look: it may be late, and meant for what ran before."""
        global _told  # noqa: PLW0603
        claimed = worker.claim_soft_timeout()
        if claimed is not None:
            from ._exceptions import soft_timeout

            told = soft_timeout(*claimed)
            _told = ref(told)
            raise told

    _signal.signal(_native.soft_signal(), look)
