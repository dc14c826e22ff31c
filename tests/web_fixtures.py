"""Fixtures of the tests of the HTTP interface: ``pytest_plugins = ["web_fixtures"]``."""

import pytest

from helpers import wait_until
from web import KINDS, native_door, open_door, running_executor


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def door(kind, tmp_path_factory):
    """A door of each kind to two workers, shared by a module's tests."""
    with running_executor(2) as executor, open_door(kind, executor, tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    """The native door to two workers, shared by a module's tests."""
    with running_executor(2) as executor, native_door(executor, tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture
def hold(door, tmp_path):
    """Keeps both workers busy until it is called."""
    gate = tmp_path / "gate"
    yield gate
    gate.touch()
    wait_until(lambda: door.executor.status()["running"] == 0, 10, "workers free again")
