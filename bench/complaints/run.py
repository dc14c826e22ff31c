"""Runs one cell of the table in a process of its own, with a limit, and leaves nothing of it behind."""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TypedDict

from .cell import VERDICT
from .processes import MARK, kill_marked

LIMIT_SECONDS = 60
"""For one cell: twice what the longest one takes in which something goes wrong late."""

BENCH = str(Path(__file__).resolve().parents[1])


class Cell(TypedDict):
    """What has happened."""

    mark: str
    """As in `page.MARKS`."""
    saw: str
    log: str
    """All that the cell's processes have printed."""


def run_cell(system: str, key: str) -> Cell:
    """Try it."""
    mark = uuid.uuid4().hex
    path = os.pathsep.join(filter(None, [BENCH, os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "complaints.cell", system, key],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, MARK: mark, "PYTHONPATH": path},
            start_new_session=True,
        )
        try:
            process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        kill_marked(mark)
        out.seek(0)
        text = out.read()
    verdicts = [line.removeprefix(VERDICT) for line in text.splitlines() if line.startswith(VERDICT)]
    if verdicts:
        found = json.loads(verdicts[-1])
        return {"mark": found["mark"], "saw": found["saw"], "log": text}
    if process.returncode == -9:
        return {"mark": "wrong", "saw": "hangs", "log": text}
    return {"mark": "wrong", "saw": f"exit status {process.returncode}", "log": text}
