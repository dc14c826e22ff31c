"""Context variables, and functions for the workers that look at them."""

import warnings
from contextvars import ContextVar

import disttask

user = ContextVar("user")
level = ContextVar("level", default=0)
renamed = ContextVar("its own name", default=None)


class Odd(UserWarning):
    """A warning of a module that workers may not have imported."""


def seen(*_):
    return user.get(None), level.get()


def seen_name():
    return renamed.get()


def set_and_see(name):
    """What it sets ends with it."""
    before = user.get(None)
    user.set(name)
    return before, user.get()


def nested(executor):
    """What a task's task sees: of the values of the task itself."""
    user.set(user.get(None) or "the task's")
    token = level.set(99)
    future = executor.submit(seen)
    mapped = list(executor.map(seen, range(2)))
    by_module = disttask.submit(seen)
    level.reset(token)
    return future.result(), mapped, by_module.result(), executor.submit(seen).result()


class Fails(Exception):
    pass


def see_or_fail(path):
    with open(path, "a") as file:
        file.write(f"{user.get(None)}\n")
    raise Fails(user.get(None))


def warn(category, text="odd"):
    """How the filters treat it: what is raised is the answer, too."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            warnings.warn(text, category, stacklevel=1)
        except Warning as raised:
            return f"raised {raised}"
    return [str(warning.message) for warning in caught]


def warn_odd(text="odd"):
    return warn(Odd, text)


def filters():
    return [(action, category.__name__, line) for action, _, category, _, line in warnings.filters]
