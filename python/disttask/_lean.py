"""What keeps a worker's start short. Imported by its program before all else of ours, and by nobody else.

On 3.11, of 7 ms that our imports take, 2 go to `functools` and what that imports, for one name that stands in a small
module as well, and 1 to collections of garbage where there is none.
"""

import _functools  # type: ignore[import-not-found]
import gc
import sys

collects = gc.isenabled()
"""Whether garbage is collected: the environment's start-up files may have switched that off."""

gc.disable()  # until `_worker.main` is about to run anybody else's code

if "functools" not in sys.modules:
    sys.modules["functools"] = _functools  # `_pickle` looks for `partial` there
    try:
        import _pickle  # noqa: F401 - what it takes is taken now
    finally:
        del sys.modules["functools"]  # whoever needs it imports it whole
