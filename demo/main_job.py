"""The main job: tokenize every source file of this Python's standard library, three times over.

1. serially, in this process;
2. through `disttask.Executor`, while a busy worker is killed with SIGKILL in the middle;
3. through `serialize_task`, `submit` and `get_results`.

All three must give the same answers. Run it with `make demo`.
"""

import os
import signal
import sys
import sysconfig
import time
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

import disttask


class Tokenized(NamedTuple):
    """What is known of a file."""

    path: str
    tokens: int
    digest: str


class Answer(NamedTuple):
    """A result, and who made it."""

    tokenized: Tokenized
    pid: int


class Kill(NamedTuple):
    """A worker that was killed, and the one that took its place."""

    pid: int
    task: str
    replacement: int
    seconds: float


def tokenize_file(path: str) -> Answer:
    """Count a file's tokens. This function lives in `__main__`: it travels to the workers by value."""
    digest = sha256()
    tokens = 0
    try:
        with tokenize.open(path) as source:
            for token in tokenize.generate_tokens(source.readline):
                tokens += 1
                digest.update(f"{token.type}:{token.string}".encode("utf-8", "surrogatepass"))
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError) as exc:
        digest.update(type(exc).__name__.encode())  # some files of the test suite are broken on purpose
    return Answer(Tokenized(path, tokens, digest.hexdigest()), os.getpid())


def standard_library() -> list[str]:
    """Every source file, without what `pip` has installed below it."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)


def bar(items: Iterable[Any], title: str, total: int) -> Iterator[Any]:
    """A progress bar."""
    every_seconds = 0.1 if sys.stderr.isatty() else 3.0
    return iter(tqdm(items, desc=f"{title:<28}", total=total, unit="file", ncols=100, mininterval=every_seconds))


def serially(paths: list[str]) -> list[Answer]:
    """The reference."""
    return [tokenize_file(path) for path in bar(paths, "serial", len(paths))]


def through_executor(paths: list[str], kills: list[Kill]) -> list[Answer]:
    """With a kill after a third of the work."""
    answers: dict[str, Answer] = {}
    with disttask.Executor() as executor:
        futures = [executor.options(retries=3).submit(tokenize_file, path) for path in paths]
        for done, future in enumerate(bar(as_completed(futures), "Executor, one worker killed", len(paths))):
            answer = future.result()
            answers[answer.tokenized.path] = answer
            if done == len(paths) // 3:
                kills.append(kill_a_busy_worker(executor))
    return [answers[path] for path in paths]


def kill_a_busy_worker(executor: disttask.Executor) -> Kill:
    """SIGKILL, then wait until somebody else sits in its place."""
    victim = wait_for(lambda: next((w for w in executor.status()["workers"] if w["state"] == "busy"), None))
    began = time.perf_counter()
    os.kill(victim["pid"], signal.SIGKILL)

    def replacement() -> dict[str, Any] | None:
        seat = executor.status()["workers"][victim["worker"]]
        ready = seat["state"] in ("idle", "busy") and seat["pid"] != victim["pid"]
        return seat if ready else None

    seat = wait_for(replacement)
    return Kill(victim["pid"], victim["task"]["name"], seat["pid"], time.perf_counter() - began)


def wait_for(look: Callable[[], dict[str, Any] | None], limit_seconds: float = 10.0) -> dict[str, Any]:
    """Call `look` until it finds something."""
    end = time.monotonic() + limit_seconds
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
    raise SystemExit("what the demo waited for did not happen within 10 s")


def through_task_texts(paths: list[str]) -> list[Answer]:
    """As another program would: tasks as text, results by id."""
    texts = [disttask.serialize_task(tokenize_file, path) for path in paths]
    ids = [disttask.submit(text).task_id for text in texts]
    records = [disttask.get_results([task_id])[0] for task_id in bar(ids, "submit and get_results", len(ids))]
    return [record["result"] for record in records]


def timed(run: Callable[[], list[Answer]]) -> tuple[list[Answer], float]:
    """The answers, and how long they took."""
    began = time.perf_counter()
    return run(), time.perf_counter() - began


def by_worker(answers: list[Answer]) -> str:
    """What each worker did."""
    files = Counter(answer.pid for answer in answers)
    tokens: Counter[int] = Counter()
    for answer in answers:
        tokens[answer.pid] += answer.tokenized.tokens
    return ", ".join(f"pid {pid}: {count} files / {tokens[pid]:,} tokens" for pid, count in sorted(files.items()))


def main() -> None:
    """Run all three, and compare."""
    paths = standard_library()
    kills: list[Kill] = []
    serial, serial_seconds = timed(lambda: serially(paths))
    rows = [("serial", serial, serial_seconds)]
    rows.append(("Executor", *timed(lambda: through_executor(paths, kills))))
    rows.append(("submit/get_results", *timed(lambda: through_task_texts(paths))))

    print(f"\n{'':<20}{'files':>8}{'tokens':>13}{'seconds':>10}{'speed-up':>10}")
    for name, answers, seconds in rows:
        tokens = sum(answer.tokenized.tokens for answer in answers)
        print(f"{name:<20}{len(answers):>8}{tokens:>13,}{seconds:>10.2f}{serial_seconds / seconds:>9.2f}x")
    for name, answers, _ in rows[1:]:
        print(f"{name}: {by_worker(answers)}")
    for kill in kills:
        print(
            f"killed: pid {kill.pid} (it ran {kill.task}); replaced by pid {kill.replacement}, "
            f"ready after {kill.seconds * 1000:.0f} ms"
        )
    reference = [answer.tokenized for answer in serial]
    equal = all([answer.tokenized for answer in answers] == reference for _, answers, _ in rows[1:])
    print(f"results equal the serial run: {'yes' if equal else 'NO'}")
    if not equal or not kills:
        raise SystemExit(1)


main()
