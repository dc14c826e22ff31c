"""Runs what users complain of against several pools: ``PYTHONPATH=bench python -m complaints``.

Each cell is a process of its own, with a time limit, after which it and all that it has started is killed. Exit
status 1: disttask has not passed a case.
"""

import argparse
import sys
from pathlib import Path

from .cases import CASES
from .page import history_of, made, made_again, outcomes_of, page, shown
from .peers import SYSTEMS
from .run import run_cell


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated; default: all")
    parser.add_argument("--only", default="", help="comma-separated beginnings of the cases' names, as 3-")
    parser.add_argument("--md", type=Path, help="write the table to this file; what is not run stays as it is there")
    parser.add_argument("--verbose", action="store_true", help="show what cases print that are not passed")
    args = parser.parse_args()
    starts = tuple(part for part in args.only.split(",") if part) or ("",)
    keys = [key for key in CASES if key.startswith(starts)]
    systems = args.systems.split(",")
    old = args.md.read_text() if args.md and args.md.exists() else ""
    found = outcomes_of(old)
    if args.md and any({*cells, *(systems if key in keys else [])} != {*SYSTEMS} for key, cells in found.items()):
        parser.error(f"{args.md} does not have what would not be run: run all of it")
    run = passed = failed = 0
    for key in keys:
        for system in systems:
            cell = found[key][system] = run_cell(system, key)
            run += 1
            print(f"{key:32} {system:10} {shown(cell)}", flush=True)
            if args.verbose and cell["mark"] != "ok":
                print(cell["log"], flush=True)
            if system == "disttask":
                passed += cell["mark"] == "ok"
                failed += cell["mark"] not in {"ok", "skip"}
    if args.md:
        whole = run == len(CASES) * len(SYSTEMS)
        again = [made_again(system, keys) for system in systems]
        args.md.write_text(page(found, [made()] if whole else [*history_of(old), *again]))
    print(f"complaints, {run} runs; disttask: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
