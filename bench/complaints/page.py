"""Writes docs/complaints.md."""

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from .case import Case
from .cases import CASES
from .elsewhere import elsewhere
from .peers import SYSTEMS
from .run import LIMIT_SECONDS, Cell
from .systems import PATIENCE

MARKS = {"ok": "🟢", "wrong": "🔴", "none": "⚪", "skip": "⚪"}

MADE = "Made by `make complaints`"
AGAIN = "Tried again"
"""How lines begin that say by which run the page, or some of it, was made."""

Found = Mapping[str, Mapping[str, Cell]]
"""By key and system."""


def seen(case: Case) -> str:
    """A link to somebody who complains of it."""
    if case.seen.startswith("https:"):
        return f"[docs]({case.seen})"
    project, number = case.seen.split("#")
    return f"[{project.partition('/')[2]} #{number}](https://github.com/{project}/issues/{number})"


def row_head(case: Case) -> str:
    """A row up to its outcomes."""
    return f"| {case.number} | {case.complaint} ({seen(case)}) | {case.passes} |"


def shown(cell: Cell) -> str:
    """An outcome as it stands in the table."""
    saw = cell["saw"].replace("|", "\\|").replace("<", "&lt;")
    return f"{MARKS[cell['mark']]} {saw or 'ok'}"


def totals(found: Found) -> list[str]:
    """Who has passed how many, as a table."""
    lines = ["| | 🟢 passed | 🔴 not passed | ⚪ not offered |", "|---|---|---|---|"]
    for system in SYSTEMS:
        marks = [MARKS[found[key][system]["mark"]] for key in CASES]
        lines.append(f"| {system} | " + " | ".join(str(marks.count(mark)) for mark in "🟢🔴⚪") + " |")
    return lines


def shared_success(found: Found) -> str:
    """Where others do as well."""
    passed = [[system for system in SYSTEMS if found[key][system]["mark"] == "ok"] for key in CASES]
    all_pass = sum(len(systems) == len(SYSTEMS) for systems in passed)
    alone = sum(systems == ["disttask"] for systems in passed)
    return f"All pass {all_pass} of the {len(CASES)} rows; disttask alone passes {alone}.\n"


def versions() -> str:
    """Of the packages that are compared."""
    modules = [kind.module for kind in SYSTEMS.values() if "." not in kind.module]
    return ", ".join(f"{name} {metadata.version(name)}" for name in [*modules, "numpy"])


def build() -> str:
    """From what and when: the commit and the day."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", "../..", ":!../../docs"], capture_output=True, text=True, check=False
    )
    changes = " with changes" if changed.stdout else ""
    return f"commit {commit.stdout.strip() or 'unknown'}{changes}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}"


def made() -> str:
    """By which run."""
    return (
        f"{MADE} at {build()}, with {platform.python_implementation()} {platform.python_version()}, Linux "
        f"{platform.release().split('-')[0]}, {len(os.sched_getaffinity(0))} processors; {versions()}."
    )


def made_again(system: str, keys: list[str]) -> str:
    """By which run some of it was replaced."""
    which = "all rows" if len(keys) == len(CASES) else ", ".join(keys)
    return f"{AGAIN} at {build()}, with Python {platform.python_version()}: {system} in {which}."


INTRO = f"""\
Each row is a complaint that comes up in the trackers of these projects, made into a program that is run, once for each
pool, with two workers where nothing else is said. Nothing is quoted: a cell is what that run has seen. *hangs*: an
answer had not come after {PATIENCE:.0f} seconds (or the program had to be ended after {LIMIT_SECONDS}).
Each pool is used as its documentation says, with its own option where it has one for this; ⚪ where it has none. PPE is
`concurrent.futures.ProcessPoolExecutor`, with forked and with fresh workers. What newer versions of Python have added
to it is not seen here: 3.14 has `map(buffersize=...)` and `kill_workers`, and releases since July 2026 do not deadlock
in row 10 any more. The programs are in [bench/complaints](../bench/complaints).

What other pools do better is not in the table, but [below it](#where-another-is-the-better-choice).
"""

NUMBERS = """\
The number is that in our list of 25 complaints; *also*: one that came up less often. The 25th is about brokers' queues,
and not tried.
"""


def page(found: Found, history: list[str]) -> str:
    """All of it. `history`: what `made` and `made_again` have said."""
    title = "# What users of process pools complain of, tried"
    systems = " | ".join(SYSTEMS)
    lines = [title, "", *(line + "\n" for line in history), INTRO, *totals(found), "", shared_success(found), NUMBERS]
    lines.append(f"| | complaint | what is tried, and when it is passed | {systems} |")
    lines.append("|---|---|---|" + "---|" * len(SYSTEMS))
    for key, case in CASES.items():
        lines.append(row_head(case) + "".join(f" {shown(found[key][system])} |" for system in SYSTEMS))
    lines += elsewhere()
    return "\n".join(lines) + "\n"


def rows(text: str) -> list[tuple[str, list[str]]]:
    """Of a page: heads, and outcomes."""
    found = []
    for line in text.splitlines():
        if re.match(r"\| (\d+|also) \|", line):
            cells = line.removesuffix(" |").split(" | ")
            found.append((" | ".join(cells[:3]) + " |", cells[3:]))
    return found


def history_of(text: str) -> list[str]:
    """By which runs a page was made."""
    return [line for line in text.splitlines() if line.startswith((MADE, AGAIN))]


def outcomes_of(text: str) -> dict[str, dict[str, Cell]]:
    """What a page says of the cases that there still are."""
    known = {row_head(case): key for key, case in CASES.items()}
    found: dict[str, dict[str, Cell]] = {key: {} for key in CASES}
    marks = {shape: mark for mark, shape in MARKS.items()}
    for head, cells in rows(text):
        if head in known and len(cells) == len(SYSTEMS):
            for system, cell in zip(SYSTEMS, cells, strict=True):
                found[known[head]][system] = {"mark": marks[cell[0]], "saw": cell[2:], "log": ""}
    return found
