"""What a case is, and what it is given."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .systems import PATIENCE, Hang, Missing, Skip, System, Wrong


@dataclass
class Context:
    """What a case is given."""

    system: str
    kind: type[System]
    folder: Path

    def pool(self, workers: int = 2, **options: Any) -> System:
        """A new pool."""
        return self.kind(workers, **options)

    def path(self, name: str) -> str:
        """Of a file of the case's own."""
        return str(self.folder / name)

    def lines(self, name: str) -> list[str]:
        """What tasks have noted there."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def wait_lines(self, name: str, count: int = 1) -> None:
        """Until tasks have noted so much."""
        wait_until(lambda: len(self.lines(name)) >= count)


Run = Callable[[Context], str | None]
"""Tries it. Returns what else there is to say of a success; raises where there is none."""


@dataclass
class Case:
    """One row of the table."""

    number: str
    """Of the complaint in our list of them; "also": it is one that came up less often."""
    complaint: str
    passes: str
    """What is tried, and when it is passed."""
    seen: str
    """Where somebody complains: ``owner/project#number``."""
    run: Run
    slow: bool
    """Too long, or too much memory, for the ordinary suite of tests."""

    @property
    def key(self) -> str:
        """What it is called on the command line."""
        return f"{self.number}-{self.run.__name__}"


CASES: dict[str, Case] = {}
"""By key, in the order of the table, once `cases` is imported."""


def case(number: str, complaint: str, passes: str, seen: str, slow: bool = False) -> Callable[[Run], Run]:
    """Register a case."""

    def register(run: Run) -> Run:
        new = Case(number, complaint, passes, seen, run, slow)
        assert new.key not in CASES
        CASES[new.key] = new
        return run

    return register


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait, not for ever."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Hang
        time.sleep(0.01)


def outcomes(pool: System, handles: list[Any], seconds: float = PATIENCE) -> list[Any]:
    """Results and exceptions of several tasks, so long for all of them together."""
    deadline, found = time.monotonic() + seconds, []
    for handle in handles:
        try:
            found.append(pool.result(handle, max(0.1, deadline - time.monotonic())))
        except Exception as exc:
            found.append(exc)
    return found


def results(pool: System, handles: list[Any], seconds: float = PATIENCE) -> list[Any]:
    """The same where each must have a result."""
    found = outcomes(pool, handles, seconds)
    for outcome in found:
        if isinstance(outcome, Exception):
            raise outcome
    return found


def expect(saw: object, wanted: object, otherwise: str = "") -> None:
    """Equal, or wrong: which is said in these words, if there are any."""
    if saw != wanted:
        raise Wrong(otherwise or f"{saw!r} instead of {wanted!r}")


def assert_usable(pool: System) -> None:
    """It takes tasks and answers them."""
    from .tasks import identity

    try:
        found = outcomes(pool, [pool.submit(identity, number) for number in range(4)])
    except Exception as exc:
        raise Wrong("pool broken") from exc
    for outcome in found:
        if isinstance(outcome, Hang):
            raise Wrong("pool hangs afterwards")
        if isinstance(outcome, Exception):
            raise Wrong("pool broken") from outcome
    expect(found, [0, 1, 2, 3])


def failure(outcome: object) -> Exception:
    """The exception that a task has ended with, as it should."""
    if isinstance(outcome, Hang):
        raise outcome
    if not isinstance(outcome, Exception):
        raise Wrong("it has a result")
    return outcome


def verdict(exc: BaseException) -> tuple[str, str]:
    """What an exception of a case means, as in `page.MARKS`, and how it stands in a cell."""
    match exc:
        case Missing():
            return "none", str(exc) or "not offered"
        case Skip():
            return "skip", str(exc)
        case Hang():
            return "wrong", "hangs"
        case Wrong():
            return "wrong", str(exc)
    return "wrong", type(exc).__name__
