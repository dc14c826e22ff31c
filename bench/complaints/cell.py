"""One cell of the table: ``python -m complaints.cell SYSTEM KEY``.

It runs that case, prints its verdict, and ends at once.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from .case import Context, verdict
from .cases import CASES
from .peers import SYSTEMS

VERDICT = "VERDICT "
"""What the line begins with."""


def main() -> None:
    """Run the case named."""
    system, key = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = folder  # what pools leave there is seen, and goes with it
        tempfile.tempdir = None
        try:
            mark, saw = "ok", CASES[key].run(Context(system, SYSTEMS[system], Path(folder))) or ""
        except BaseException as exc:
            traceback.print_exc()
            mark, saw = verdict(exc)
        print("\n" + VERDICT + json.dumps({"mark": mark, "saw": saw}), flush=True)
    os._exit(0)  # how pools end is the business of the cases that end one


if __name__ == "__main__":
    main()
