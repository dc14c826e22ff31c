"""Functions for the workers of `test_nested_points`: nested tasks that end well and badly, and a signal at each point.

The points are those of `interrupts`: ours, at which CPython looks for signals. The task itself has none.
"""

import gc
import os
import sys
import threading

import disttask
from interrupts import OURS

RAN = []
"""Those that have run in this process."""


class Tick(BaseException):
    """What a signal handler raises."""


class Late(Exception):
    """As well."""


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


class Mute(Exception):
    def __str__(self):
        raise OSError("no message")


class Unloadable:
    def __reduce__(self):
        return _unload, ()


def _unload():
    raise LookupError("not this one")


def value():
    RAN.append(0)
    return 5


def by_name():
    RAN.append(0)
    return value


def chain():
    RAN.append(0)
    try:
        try:
            raise KeyError("deep")
        except KeyError as exc:
            raise OSError("in between") from exc
    except OSError as exc:
        raise ValueError("on top") from exc


def broken_chain():
    RAN.append(0)
    raise ValueError("on top") from Unpicklable("below")


def unpicklable():
    RAN.append(0)
    raise Unpicklable("this")


def mute():
    RAN.append(0)
    raise Mute


def generator():
    RAN.append(0)
    return (number for number in ())


def unloadable():
    RAN.append(0)
    return Unloadable()


def never(_):
    RAN.append(0)


CALLS = {
    task.__name__: (task, *args)
    for task, *args in (
        (value,),
        (by_name,),
        (chain,),
        (broken_chain,),
        (unpicklable,),
        (mute,),
        (generator,),
        (unloadable,),
        (never, Unloadable()),
    )
}


def ask(future):
    try:
        return future.result(20)
    except BaseException as exc:
        return exc


def told(end):
    """A value, or an exception and what that was raised from."""
    if not isinstance(end, BaseException):
        return repr(end)
    said = []
    while end is not None:
        if not isinstance(end, disttask.RemoteTraceback):  # which says where
            said.append(f"{type(end).__qualname__}: {'' if type(end) is Mute else end}")
        end = end.__cause__
    return " from ".join(said)


def hit(future, point, kind):
    """How it ends if there is an exception at that point, and where that is, if there is such a point."""
    left, where = point, None

    def look(frame, event, what):
        nonlocal left, where
        if event in ("call", "c_return") and where is None and frame.f_code.co_filename.startswith(OURS):
            left -= 1
            if left < 0:
                sys.setprofile(None)
                where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {event}"
                raise kind

    gc.disable()  # what is collected meanwhile has steps of its own, and what is raised there is told nobody
    sys.setprofile(look)
    try:
        end = ask(future)
    finally:
        sys.setprofile(None)
        gc.enable()
    return told(end), where


def at_each_point(name, kind):
    """What was wrong, and how many points there were."""
    assert threading.current_thread() is threading.main_thread()
    task, *args = CALLS[name]
    undisturbed = told(ask(disttask.submit(task, *args)))
    wrong, point = [], 0
    while True:
        future = disttask.submit(task, *args)
        RAN.clear()
        end, where = hit(future, point, kind)
        if where is None:
            return wrong, point
        ends = [told(ask(future)) for _ in range(2)]
        if kind.__name__ not in end:
            wrong.append(f"{where}: nobody was told")
        if ends[0] != ends[1] or (ends[0] != undisturbed and (RAN or kind.__name__ not in ends[0])):
            wrong.append(f"{where}: it is {ends}, not {undisturbed}")
        point += 1
