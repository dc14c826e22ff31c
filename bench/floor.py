"""Where the time of a no-op task goes: a sampled profile of `submit` and `result`, on both sides. Needs `perf`.

Run it with `make bench`; prints a table.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter

import disttask

SECONDS = 4
SAMPLES_PER_SECOND = 7_000
TRIPS_PER_LOOK_AT_THE_CLOCK = 1000

WAITING = "waiting for the other side"
GROUPS = [
    ("kernel: futex, switches, ticks", r"\[kernel"),
    (WAITING, r"spin|has_news|has_task|has_answer|sleep_until|wait::|Future>?::wait"),
    ("arguments and results to bytes and back", r"codec|[Pp]ickle|decode|encode|numbers"),
    ("rings and bells", r"::ipc::"),
    ("scheduler", r"::scheduler::"),
    ("pool: task table, history, slot", r"::pool::|parking_lot"),
    ("calls between Python and Rust", r"disttask::bindings|pyo3|trampoline"),
    ("memory: malloc, free, copies", r"[mc]alloc|free|memmove|memcpy|memset|dealloc"),
    ("clock", r"clock_gettime|vdso"),
    ("interpreter", r"libpython|bin/python"),
]


def nothing(number: int) -> int:
    """A task of no work."""
    return number


def group_of(sample: str) -> str:
    """The first whose pattern is found in the sample's symbol and library."""
    return next((name for name, pattern in GROUPS if re.search(pattern, sample)), "anything else")


def shares(path: str, pid: int) -> Counter[str]:
    """A process's samples, by group."""
    command = ["perf", "script", "-i", path, "--pid", str(pid), "-F", "ip,sym,dso"]
    script = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return Counter(group_of(line) for line in script.splitlines() if line.strip())


def main() -> None:
    """Print the table."""
    if shutil.which("perf") is None:
        print("no perf here: where a task's time goes is left out")
        return
    # One worker: every task goes the same way.
    with disttask.Executor(1) as executor, tempfile.TemporaryDirectory() as folder:
        worker = executor.submit(os.getpid).result()
        path, pids = f"{folder}/perf.data", f"{os.getpid()},{worker}"
        command = [
            "perf",
            "record",
            "-q",
            "-F",
            str(SAMPLES_PER_SECOND),
            "-o",
            path,
            "-p",
            pids,
            "--",
            "sleep",
            str(SECONDS),
        ]
        sampling = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        trips, start = 0, time.perf_counter()
        while sampling.poll() is None:
            for number in range(TRIPS_PER_LOOK_AT_THE_CLOCK):
                executor.submit(nothing, number).result()
            trips += TRIPS_PER_LOOK_AT_THE_CLOCK
        nanos = 1e9 * (time.perf_counter() - start) / trips
        host, other = shares(path, os.getpid()), shares(path, worker)
    print(f"A round trip of {nanos:,.0f} ns, sampled on both sides ({host.total() + other.total():,} samples):\n")
    print("| ns in each trip | host | worker |\n|---|---|---|")
    names = [name for name, _ in GROUPS if name != WAITING] + ["anything else", WAITING]
    for name in names:
        print(f"| {name} | {nanos * host[name] / host.total():.0f} | {nanos * other[name] / other.total():.0f} |")


if __name__ == "__main__":
    main()
