"""What workers share with the host by way of `multiprocessing`: its key, its resource tracker, what it passes on.

Nothing here imports `multiprocessing` (30 ms) for anybody who does not: host and workers agree on a key beforehand, and
where one of them imports it later, it finds things prepared.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any

_waiting: dict[str, Callable[[ModuleType], None]] = {}
"""What to do with modules that have not been imported yet."""

_key: bytes | None = None
"""The key that was agreed on before `multiprocessing` was imported."""

_descriptors: list[int] = []
"""In a worker: what the host has passed on."""


def when_imported(name: str, call: Callable[[ModuleType], None]) -> None:
    """Call this with the module: now, or as soon as it is imported."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
        return
    _waiting[name] = call
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds what others find, and has it looked at afterwards."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        call = _waiting.pop(name, None)
        if call is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, call)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    def __init__(self, loader: Any, call: Callable[[ModuleType], None]) -> None:
        self._loader, self._call = loader, call

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._call(module)


# --- the key ----------------------------------------------------------------------------------------------------------


def authkey() -> bytes:
    """What processes of one program prove to each other that they belong together with: managers ask for it."""
    global _key  # noqa: PLW0603
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        return bytes(process.current_process().authkey)
    if _key is None:
        _key = os.urandom(32)
        when_imported("multiprocessing.process", _adopt_key)
    return _key


def _adopt_key(process: Any) -> None:
    process.current_process().authkey = _key


def join(key: bytes, descriptors: list[int], tracker: int | None) -> None:
    """In a worker: be to `multiprocessing` what a process is that it has started itself."""
    global _key
    _key, _descriptors[:] = key, descriptors
    when_imported("multiprocessing.process", _be_a_child)
    given = None if tracker is None else descriptors[tracker]
    when_imported("multiprocessing.resource_tracker", lambda module: _share_tracker(module, given))


def _be_a_child(process: Any) -> None:
    _adopt_key(process)
    current = process.current_process()
    current.name = f"DisttaskWorker-{os.getpid()}"  # whoever asks whether it is "MainProcess" is to know
    try:
        host = os.pidfd_open(os.getppid())
    except OSError:
        return  # parent_process() is None then; nothing else says whether the host lives
    process._parent_process = process._ParentProcess("MainProcess", os.getppid(), host)


# --- the resource tracker -------------------------------------------------------------------------------------------


def tracker_descriptor() -> int | None:
    """In the host: the way to its resource tracker, if there is one by now."""
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    descriptor: int | None = None if module is None else module._resource_tracker._fd
    return descriptor


def _share_tracker(module: Any, given: int | None) -> None:
    """Use the host's tracker: a worker's own would unlink what it knows of (shared memory, semaphores) at its end."""
    tracker = module._resource_tracker
    tracker._fd = given
    for name in ("ensure_running", "_ensure_running_and_write"):
        ensure = getattr(tracker, name, None)
        if ensure is not None:
            setattr(tracker, name, _finding_the_hosts(tracker, ensure))
    module.ensure_running = tracker.ensure_running


def _finding_the_hosts(tracker: Any, ensure: Callable[..., Any]) -> Callable[..., Any]:
    def ensure_running(*args: Any) -> Any:
        if tracker._fd is None:
            tracker._fd = _find_tracker(os.getppid())
        return ensure(*args)

    return ensure_running


def _find_tracker(host: int) -> int | None:
    """The way to the host's tracker, where the host has started it later than this worker.

    It is a child of the host, and the number of the pipe that it reads from stands in its command line.
    """
    mark = b"multiprocessing.resource_tracker import main;main("
    try:
        for thread in os.listdir(f"/proc/{host}/task"):
            for child in _read(f"/proc/{host}/task/{thread}/children").split():
                _, found, rest = _read(f"/proc/{int(child)}/cmdline").partition(mark)
                if found:
                    number = int(rest.split(b")")[0])
                    return os.open(f"/proc/{int(child)}/fd/{number}", os.O_WRONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        pass
    return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# --- what is passed on when a worker starts -------------------------------------------------------------------------


class _Spawning:
    """Stands for the process that `multiprocessing` would be starting: objects ask it to pass descriptors on."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        self.descriptors.append(descriptor)
        return len(self.descriptors) - 1

    def DupFd(self, index: int) -> Passed:  # noqa: N802
        return Passed(index)


class Passed:
    """A descriptor that each worker gets."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """In the worker: a copy of it, to keep."""
        return os.dup(_descriptors[self._index])


def dumps_for_start(value: tuple[Any, ...]) -> tuple[bytes, list[int]]:
    """The pickle of what workers get at their start, and the descriptors that belong to it.

    Locks, queues, pipes and shared memory of `multiprocessing` are allowed in it, as when it starts a process.
    """
    from ._pickling import dumps

    context: Any = sys.modules.get("multiprocessing.context")
    if context is None:
        return dumps(value).data, []
    import multiprocessing.reduction  # noqa: F401  # registers connections and sockets

    spawning = _Spawning()
    before = context.get_spawning_popen()
    context.set_spawning_popen(spawning)
    try:
        _give_names(value[1])
        return dumps_with_reducers(value), spawning.descriptors
    except RuntimeError as exc:
        if "fork context" not in str(exc):
            raise
        raise RuntimeError(
            "a lock, queue or the like of multiprocessing's fork context cannot be handed to workers, which are not "
            'forked: make it with multiprocessing.get_context("spawn"), or with a multiprocessing.Manager()'
        ) from exc
    finally:
        context.set_spawning_popen(before)


def dumps_with_reducers(value: object, ahead: type | None = None) -> bytes:
    """By value where that is needed, and with what `multiprocessing` (and torch, through it) knows of pickling.

    `ahead` comes before the pickler's class.
    """
    from collections import ChainMap

    from ._pickling import importing

    importing("disttask._by_value")
    from . import _by_value

    reduction: Any = sys.modules["multiprocessing.reduction"]
    tables = ChainMap({}, _by_value.METHODS, reduction.ForkingPickler._extra_reducers, _by_value.DISPATCH_TABLE)
    bases = (_by_value.Pickler,) if ahead is None else (ahead, _by_value.Pickler)
    return _by_value.dumps(value, type("Pickler", bases, {"dispatch_table": tables}))


def _give_names(values: tuple[Any, ...]) -> None:
    """Give locks of the fork context a name, by which a process that is not forked can find them.

    `tqdm.contrib.concurrent.process_map` passes one. Nobody but a forked child could share it so far: where there may
    be one, or the lock is held, nothing is done, and pickling it will say what is wrong.
    """
    synchronize: Any = sys.modules.get("multiprocessing.synchronize")
    process: Any = sys.modules["multiprocessing.process"]
    if synchronize is None or process._children:
        return
    for value in values:
        if type(value) in (synchronize.Lock, synchronize.RLock) and value._semlock.name is None:
            _give_name(value, synchronize)


def _give_name(lock: Any, synchronize: Any) -> None:
    if not lock.acquire(block=False):
        return
    try:
        twin = type(lock)(ctx=synchronize.context._concrete_contexts["spawn"])
    finally:
        lock.release()
    lock.__dict__.update(vars(twin))
    # The twin unlinks its name when it goes; it is to live as long as the lock.
    lock._twin = twin
