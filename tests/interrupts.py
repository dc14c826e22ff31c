"""Ctrl-C at each point of ours at which CPython looks for signals: after calls in C, and on entry to Python functions.

The standard library's own steps are left out: `threading`, for one, is not safe from it.
"""

import gc
import os
import sys

import disttask

MARK = "at the point of the test"
OURS = os.path.dirname(disttask.__file__)


def interrupted(call, point, begin=None):
    """Call it, with a `KeyboardInterrupt` at that point (0: the first).

    Nothing is collected meanwhile: what earlier tests have left would count as well, and a map's results that are let
    go of pass an interrupt on to the main thread, which would meet it at any later time.

    Args:
        begin: count from the return of the C function of this name on.

    Returns: whether there was such a point. What else the call raises is raised.
    """
    left = point if begin is None else None

    def look(frame, event, what):
        nonlocal left
        if event == "c_return" and getattr(what, "__name__", None) == begin and left is None:
            left = point
        elif event in ("call", "c_return") and left is not None and frame.f_code.co_filename.startswith(OURS):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                raise KeyboardInterrupt(MARK)

    gc.disable()
    sys.setprofile(look)
    try:
        call()
    except KeyboardInterrupt as exc:
        if exc.args != (MARK,):
            raise
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return left is not None and left < 0  # somebody has caught it


def at_each_point(call, check, begin=None):
    """Call it again and again, each time interrupted one point later, and check. Returns how many points there were."""
    point = 0
    while interrupted(call, point, begin):
        check()
        point += 1
    check()
    return point
