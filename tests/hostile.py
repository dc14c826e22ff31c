"""Pickles that tell where they were loaded. Imported by workers, too."""

import os

import tasks


def note_pid(path):
    """Called by an unpickler: which process was it?"""
    tasks.log(path, os.getpid())
    return os.getpid()


class Canary:
    """Whoever unpickles one leaves its pid in the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return note_pid, (self.path,)


class CanaryError(Exception):
    def __init__(self, path):
        super().__init__("an exception that tells on whoever rebuilds it")
        self.path = path

    def __reduce__(self):
        return note_pid, (self.path,)


def take(canary):
    return "taken"


def give(path):
    """A result that tells."""
    return Canary(path)


def give_deep(path):
    return {"list": [Canary(path)], "n": 1}


def throw(path):
    raise CanaryError(path)


def echo(value):
    return value


def throw_text(text):
    raise ValueError(text)


def odd_keys():
    """JSON takes no such key."""
    return {(1, 2): 3, None: {4}}


def not_finite():
    """Nor this, though Python writes it."""
    return [float("nan"), float("inf")]
