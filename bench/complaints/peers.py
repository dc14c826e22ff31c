"""The systems that are compared, each used as its documentation shows, with its own option where it has one."""

import importlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import tasks
from .systems import PATIENCE, Hang, Missing, System, Wishes, Wrong


class ForkExecutor(System):
    """`ProcessPoolExecutor` with forked workers (the default until 3.13)."""

    module = "concurrent.futures"
    start_method = "fork"

    def make(self, wishes: Wishes) -> Any:
        """It has no pickling by value."""
        from concurrent.futures import ProcessPoolExecutor

        if wishes.recycle_after and self.start_method == "fork":
            raise Missing  # it says so
        context = multiprocessing.get_context(self.start_method)
        return ProcessPoolExecutor(
            wishes.workers, context, wishes.initializer, max_tasks_per_child=wishes.recycle_after
        )

    @staticmethod
    def default_workers() -> int:
        """The standard library's rule."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor()._max_workers  # type: ignore[attr-defined,no-any-return]

    def nested(self, depth: int) -> int:
        """A forked worker has the pool, as whatever else there was."""
        tasks.pool_here = self
        return int(self.call(tasks.submits_here, depth))


class SpawnExecutor(ForkExecutor):
    """`ProcessPoolExecutor` with fresh interpreters (near to the forkserver that is 3.14's default)."""

    start_method = "spawn"

    def nested(self, depth: int) -> int:
        """It cannot be passed to a task."""
        raise Missing


class Loky(System):
    """The pool behind joblib."""

    module = "loky"

    def make(self, wishes: Wishes) -> Any:
        """It pickles `__main__` by value anyway."""
        if wishes.recycle_after:
            raise Missing
        loky = importlib.import_module("loky")
        return loky.get_reusable_executor(max_workers=wishes.workers, initializer=wishes.initializer)

    @staticmethod
    def default_workers() -> int:
        """Of its own rule."""
        return int(importlib.import_module("loky").get_reusable_executor()._max_workers)


class Mpire(System):
    """Forked workers behind an interface like that of `multiprocessing.Pool`."""

    module = "mpire"

    def make(self, wishes: Wishes) -> Any:
        """Recycling and initializer are arguments of its calls; by value means dill."""
        options = {"use_dill": wishes.by_value, "daemon": not wishes.nesting, "shared_objects": wishes.shared}
        return importlib.import_module("mpire").WorkerPool(wishes.workers, **options)

    @staticmethod
    def default_workers() -> int:
        """Of its own rule."""
        return int(importlib.import_module("mpire").WorkerPool().pool_params.n_jobs)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """`apply_async`."""
        return self.native.apply_async(function, args, worker_init=self.wishes.initializer)

    def submit_limited(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        """`apply_async(task_timeout=...)`."""
        return self.native.apply_async(function, args, task_timeout=seconds)

    def result(self, handle: Any, within: float = PATIENCE) -> Any:
        """`AsyncResult.get`."""
        try:
            return handle.get(timeout=within)
        except TimeoutError:
            if handle.ready():
                raise
            raise Hang from None

    def cancel(self, handle: Any) -> bool:
        """An `AsyncResult` cannot be cancelled."""
        raise Missing

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """`imap`, which needs bounds for an input without a length."""
        bounds = {} if hasattr(items, "__len__") else {"iterable_len": None, "max_tasks_active": 4}
        found = self.native.imap(function, items, chunk_size=1, worker_lifespan=self.wishes.recycle_after, **bounds)
        return iter(found)

    def map_with_bar(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """`progress_bar=True`."""
        return iter(self.native.imap(function, items, progress_bar=True))

    def arguments(self) -> tuple[Any, ...]:
        """Shared objects are a task's first argument anyway."""
        return ()

    def nested(self, depth: int) -> int:
        """As forked workers have it."""
        tasks.pool_here = self
        return int(self.call(tasks.submits_here, depth))

    def close(self) -> None:
        """`stop_and_join`."""
        self.native.stop_and_join()


class Pebble(System):
    """A pool of forked workers with time-outs."""

    module = "pebble"

    def make(self, wishes: Wishes) -> Any:
        """It has no pickling by value."""
        pool = importlib.import_module("pebble").ProcessPool
        return pool(wishes.workers, wishes.recycle_after or 0, wishes.initializer)

    @staticmethod
    def default_workers() -> int:
        """It has no rule but this number of its constructor."""
        raise Missing

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """`schedule`."""
        return self.native.schedule(function, args)

    def submit_limited(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        """`schedule(timeout=...)`."""
        return self.native.schedule(function, args, timeout=seconds)

    def stop(self, handle: Any) -> None:
        """`cancel` reaches what runs."""
        if not handle.cancel():
            raise Wrong("cancel() is False")

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """Its future holds an iterator."""
        return iter(self.native.map(function, items).result())

    def nested(self, depth: int) -> int:
        """As forked workers have it."""
        tasks.pool_here = self
        return int(self.call(tasks.submits_here, depth))

    def close(self) -> None:
        """`close` and `join`."""
        self.native.close()
        self.native.join()


class Disttask(System):
    """This package."""

    module = "disttask"

    def make(self, wishes: Wishes) -> Any:
        """It pickles `__main__` by value anyway."""
        import disttask

        more = {"context": list(wishes.context)} if wishes.context else {}
        return disttask.Executor(
            wishes.workers,
            initializer=wishes.initializer,
            max_tasks_per_child=wishes.recycle_after,
            **more,  # type: ignore[arg-type]
        )

    @staticmethod
    def default_workers() -> int:
        """Of its own rule."""
        import disttask

        return disttask.Executor()._max_workers

    def check_context(self) -> None:
        """`Executor(context=...)`."""

    def submit_limited(self, seconds: float, function: Callable[..., Any], *args: Any) -> Any:
        """`options(timeout=...)`."""
        return self.native.options(timeout=seconds).submit(function, *args)

    def submit_first(self, function: Callable[..., Any], *args: Any) -> Any:
        """`options(priority=...)`."""
        return self.native.options(priority=1).submit(function, *args)

    def submit_retried(self, retries: int, kind: type[Exception], function: Callable[..., Any], *args: Any) -> Any:
        """`options(retries=...)`."""
        options = self.native.options(retries=retries, retry_on=kind, backoff=0.01, crash_limit=3)
        return options.submit(function, *args)

    def stop(self, handle: Any) -> None:
        """`Future.kill`."""
        if not handle.kill():
            raise Wrong("kill() is False")

    def output(self, handle: Any) -> str:
        """`Future.output`."""
        return str(handle.output())

    def map_with_bar(self, function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """`progress=True`."""
        return iter(self.native.map(function, items, progress=True))

    def arguments(self) -> tuple[Any, ...]:
        """`put`."""
        return (self.native.put(self.wishes.shared),)

    def nested(self, depth: int) -> int:
        """An executor can be given to its tasks."""
        return int(self.call(tasks.submits, self.native, depth))


SYSTEMS: dict[str, type[System]] = {
    "PPE fork": ForkExecutor,
    "PPE spawn": SpawnExecutor,
    "loky": Loky,
    "mpire": Mpire,
    "pebble": Pebble,
    "disttask": Disttask,
}
"""By what the table calls them."""
