"""What tests of functions of ``__main__`` run, and such functions use."""

import functools


def call(func, *args):
    return func(*args)


def call_first(funcs, *args):
    return funcs[0](*args)


def sum_of_second(_first, array):
    return float(array.sum())


class Shower:
    """Its method `show` is a function anew for each access."""

    def __init__(self, prefix):
        self.prefix = prefix

    @functools.singledispatchmethod
    def show(self, value):
        return f"{self.prefix} something"

    @show.register
    def _(self, value: int):
        return f"{self.prefix} int"


class Counter:
    """Counts in its module."""

    count = 0

    @classmethod
    def add(cls):
        global added
        added += 1
        return added


added = 0


class Plugin:
    """Knows its subclasses, as those that are made by a script are known in a worker."""

    registry = []  # noqa: RUF012

    def __init_subclass__(cls, **options):
        Plugin.registry.append(cls.__name__)


def plugins():
    return Plugin.registry
