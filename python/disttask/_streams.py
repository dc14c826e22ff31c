"""In a worker: `sys.stdout`, `sys.stderr` and `logging`, on their way to the host."""

from __future__ import annotations

import io
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from types import ModuleType
    from typing import Any

    from . import _native

_MAX_RECORD_BYTES = 30_000
"""A log record with its line; a message takes a little more (``MAX_RECORD_BYTES`` in ``src/ipc/output.rs``)."""

_CUT_CHARS = 4_000
"""What is left of a text of a record that is too long."""


class _Buffer(io.BufferedIOBase):
    """What a text stream writes to. The native side gathers lines, and marks them with the task that runs."""

    mode = "wb"

    def __init__(self, worker: _native.Worker, stream: str, fd: int) -> None:
        self.name = f"<{stream}>"
        self._worker, self._stream, self._fd = worker, stream, fd

    def write(self, data: Any, /) -> int:
        """Print it."""
        return self._worker.write(self._stream, data)

    def flush(self) -> None:
        """Do not wait for the end of the line."""
        self._worker.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """The descriptor, for programs that tasks start: what they write is shown, too."""
        return self._fd


class _Stream(io.TextIOWrapper):
    """A worker's `sys.stdout` or `sys.stderr`."""

    def close(self) -> None:
        """Stay open: a task that closes it would take it from all that follow."""
        self.flush()


def capture(worker: _native.Worker) -> None:
    """From now on tasks print to the host."""
    for fd, name in enumerate(("stdout", "stderr"), 1):
        # A surrogate must not make a `print` fail that would not fail in a terminal.
        stream = _Stream(
            _Buffer(worker, name, fd),
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        setattr(sys, name, stream)


def forward_logging(worker: _native.Worker, levels: dict[str, int]) -> None:
    """Send log records to the host. `logging` takes a while to import: that is left to the first who wants it."""
    if "logging" in sys.modules:
        _attach(sys.modules["logging"], worker, levels)
    else:
        sys.meta_path.insert(0, _Watch(worker, levels))


class _Watch:
    """Sees `logging` being imported, once."""

    def __init__(self, worker: _native.Worker, levels: dict[str, int]) -> None:
        self._worker, self._levels = worker, levels

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        if name != "logging":
            return None
        from _frozen_importlib_external import PathFinder

        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _attach(module, self._worker, self._levels)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _attach(logging: Any, worker: _native.Worker, levels: dict[str, int]) -> None:
    """Set the host's levels, and forward what reaches the root logger, unless a task sets up logging of its own."""
    # Not with the first record: a child that is forked while another thread imports it would wait for that for ever.
    import json  # noqa: F401

    from ._worker import is_told

    class Forward(logging.Handler):  # type: ignore[misc]
        def emit(self, record: logging.LogRecord) -> None:
            try:
                worker.write("log", _packed(record, self.format(record)))
            except Exception as exc:
                if is_told(exc):
                    raise  # a soft time-out is for the task, not for the record that it has hit
                self.handleError(record)

    handler = Forward()
    root = logging.getLogger()
    for name, level in levels.items():
        if name == "disable":
            logging.disable(level)
        elif (logger := logging.getLogger(name)).level == logging.NOTSET or logger is root:
            logger.setLevel(level)
    root.addHandler(handler)
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        root.removeHandler(handler)
        configure(**options)

    basic_config.__doc__ = configure.__doc__
    logging.basicConfig = basic_config


def _packed(record: logging.LogRecord, text: str) -> bytes:
    """The line's length, the line, and the record as JSON: the host unpickles nothing."""
    import json

    line = f"{record.levelname}:{record.name}:{text}\n"
    fields = {name: _plain(value) for name, value in vars(record).items()}
    # As `QueueHandler` does: arguments and tracebacks become text here.
    fields |= {"msg": record.message, "args": None, "exc_info": None, "processName": "disttask"}
    packed = _joined(line, json.dumps(fields))
    if len(packed) > _MAX_RECORD_BYTES:
        known = ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName", "created")
        short = {name: fields[name] for name in known}
        short |= {name: _shortened(fields[name]) for name in ("msg", "exc_text")}
        packed = _joined(_shortened(line.rstrip("\n")) + "\n", json.dumps(short))
    return packed


def _joined(line: str, record: str) -> bytes:
    data = line.encode(errors="backslashreplace")
    return len(data).to_bytes(4, "little") + data + record.encode()


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def _shortened(text: Any) -> Any:
    if not isinstance(text, str) or len(text) <= _CUT_CHARS:
        return text
    half = _CUT_CHARS // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"
