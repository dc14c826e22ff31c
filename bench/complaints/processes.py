"""The processes that a cell has started: found by a variable of their environment, whoever their parent is."""

import os
import signal
import time

MARK = "COMPLAINTS_MARK"
"""The environment variable that all processes of a cell inherit; its value is the cell's own."""


def marked(mark: str) -> list[int]:
    """Living processes of a cell, this one excluded."""
    needle, found = f"{MARK}={mark}".encode(), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environ:
                if int(name) != os.getpid() and needle in environ.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def kill_marked(mark: str) -> None:
    """End whatever a cell has left, in whichever group or session."""
    while pids := marked(mark):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
