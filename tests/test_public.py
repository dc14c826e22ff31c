"""The public names, and that each says what it is."""

import inspect
import types

import pytest

import disttask


def public_names():
    return {
        name
        for name, value in vars(disttask).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    } | {"__version__", *disttask._LATE}


def members():
    for name in sorted(public_names()):
        value = getattr(disttask, name)
        if callable(value):
            yield name, value
        if inspect.isclass(value):
            for member, inner in vars(value).items():
                if not member.startswith("_") and (callable(inner) or isinstance(inner, property)):
                    yield f"{name}.{member}", inner


def test_all_is_what_there_is():
    assert set(disttask.__all__) == public_names()
    assert disttask.__all__ == sorted(disttask.__all__)


@pytest.mark.parametrize(("name", "value"), list(members()), ids=[name for name, _ in members()])
def test_each_public_name_has_a_docstring(name, value):
    doc = inspect.cleandoc(value.__doc__ or "")
    assert len(doc) > 10, name


def test_the_version_is_a_version():
    assert disttask.__version__.count(".") == 2


@pytest.mark.parametrize("name", [n for n in sorted(public_names()) if inspect.isclass(getattr(disttask, n))])
def test_exceptions_share_a_base(name):
    kind = getattr(disttask, name)
    if issubclass(kind, Exception) and kind is not disttask.RemoteTraceback:
        assert issubclass(kind, disttask.DisttaskError)


def test_importing_is_quick_and_starts_nothing(run_script):
    """What costs much is imported where it is needed."""
    source = """
import sys, threading, disttask
print(sorted({"cloudpickle", "multiprocessing", "asyncio"} & set(sys.modules)), threading.active_count())
"""
    assert run_script(source).out == "[] 1\n"


def test_other_systems_are_refused(run_script):
    source = """
import sys
sys.platform = "win32"
import disttask
"""
    assert "disttask runs on Linux only for now" in run_script(source, status=1).err
