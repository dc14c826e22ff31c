"""What a notebook shows of an executor and of a future. Colours are the page's own: dark themes stay readable."""

from __future__ import annotations

import html
import reprlib

from ._exceptions import ForkedPoolError
from ._pickling import class_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ._future import Future

_SHOWN_WORKERS = 16
"""Rows of the table: more would fill the screen, and the line above it tells the sums."""

_SHOWN_CHARACTERS = 200
"""Of a name, a value or an error: a line or two."""

_STATE_COLOURS = {
    "idle": "#2a9d5c",
    "busy": "#3a7bd5",
    "running": "#3a7bd5",
    "succeeded": "#2a9d5c",
    "failed": "#d64545",
}
"""Of the dot in front of a state: neither too light for a white page nor too dark for a black one."""

_OTHER_COLOUR = "#888"

_CELL = "padding:0 1em 0 0;text-align:left;border:none;background:none;color:inherit"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def executor_html(title: str, status: dict[str, Any]) -> str:
    """Of an executor, from its status."""
    totals = status["totals"]
    counts = {
        "queued": status["queued"],
        "running": status["running"],
        "done": totals["succeeded"],
        "failed": totals["failed"],
        "cancelled": totals["cancelled"],
    }
    words = [f"{count:,} {what}" for what, count in counts.items() if count or what in ("queued", "running", "done")]
    if totals["worker_deaths"]:
        words.append(f"{totals['worker_deaths']:,} workers died")
    if status["broken"] is not None:
        words.append(f"broken: {_shortened(status['broken'])}")
    elif not status["accepting"]:
        words.append("shut down")
    workers = status["workers"]
    rows = [
        (
            worker["worker"],
            "" if worker["pid"] is None else worker["pid"],
            _state(worker["state"]),
            "" if worker["task"] is None else _shortened(worker["task"]["name"]),
            f"{worker['tasks_done']:,}",
            _size(worker["memory_bytes"]),
        )
        for worker in workers[:_SHOWN_WORKERS]
    ]
    table = _table(("worker", "pid", "state", "task", "done", "memory"), rows) if rows else ""
    if len(workers) > _SHOWN_WORKERS:
        words.append(f"{len(workers)} workers, {_SHOWN_WORKERS} of them below")
    return _block(title, words, table)


def future_html(future: Future[Any]) -> str:
    """Of a future. Nothing is waited for and nothing is unpickled: a value is shown if somebody has had it."""
    try:
        state, rest = _future_state(future)
        name = future._name()
    except ForkedPoolError:
        state, rest, name = "of the parent process", None, None
    words = [_Html(_state(state))]
    if name is not None:
        words.append(_Html(f"<code>{_escaped(_shortened(name))}</code>"))
    words.append(_Html(_escaped(future.task_id)))
    below = "" if rest is None else f"<div><code>{_escaped(rest)}</code></div>"
    return _block("disttask.Future", words, below)


def _future_state(future: Future[Any]) -> tuple[str, str | None]:
    """In a word; and what it has returned or raised, if that was loaded before."""
    if not future._is_resolved():
        return ("running" if future._is_running() else "pending"), None
    kind = future._kind()
    if kind == "cancelled":
        return "cancelled", None
    kept = future._kept()
    if kept is None:
        return ("failed" if kind in ("error", "failed") else "succeeded"), None
    value, exception = kept
    if exception is not None:
        return "failed", _described(exception)
    return "succeeded", _described(value)


def _described(value: object) -> str:
    """Type and short repr of what is here already."""
    try:
        text = _short.repr(value)
    except BaseException as exc:  # somebody's own `__repr__`
        text = f"<its repr raises {class_name(type(exc))}>"
    return f"{class_name(type(value))}: {_shortened(text)}"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _SHOWN_CHARACTERS


class _Html(str):
    """Escaped already."""

    __slots__ = ()


def _escaped(text: object) -> str:
    return text if isinstance(text, _Html) else html.escape(str(text))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _state(state: str) -> _Html:
    colour = _STATE_COLOURS.get(state, _OTHER_COLOUR)
    return _Html(f'<span style="color:{colour}">●</span>&nbsp;{html.escape(state)}')


def _size(count: int | None) -> str:
    if count is None:
        return ""
    size, unit = float(count), _UNITS[0]
    for unit in _UNITS:  # noqa: B007
        if size < 1024:
            break
        size /= 1024
    return f"{size:.0f} {unit}"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f'<table style="border:none;margin:.3em 0 0 0;color:inherit">{"".join(lines)}</table>'


def _row(tag: str, cells: Iterable[object]) -> str:
    inner = "".join(f'<{tag} style="{_CELL}">{_escaped(cell)}</{tag}>' for cell in cells)
    return f'<tr style="background:none">{inner}</tr>'


def _block(title: str, words: Iterable[object], below: str) -> str:
    line = " · ".join(_escaped(word) for word in words)
    return f'<div style="color:inherit"><b>{_escaped(title)}</b> · {line}{below}</div>'
