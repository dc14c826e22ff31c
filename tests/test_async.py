"""`await future`, `async for` over `amap`, `async with`: the event loop goes on, and what is cancelled stops."""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time

import pytest

import disttask
import tasks
from helpers import wait_busy, wait_until

WAYS = [{}, {"chunksize": 1}, {"ordered": False}, {"buffersize": 3}, {"ordered": False, "chunksize": 3}]


def run(coroutine, timeout=30):
    async def limited():
        async with asyncio.timeout(timeout):
            return await coroutine

    return asyncio.run(limited())


class Ticks:
    """Counts how often the event loop came by."""

    async def __aenter__(self):
        self.count = 0
        self._task = asyncio.create_task(self._tick())
        return self

    async def _tick(self):
        while True:
            await asyncio.sleep(0.01)
            self.count += 1

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


# --- await ---


def test_await_a_future(executor):
    async def main():
        first = executor.submit(tasks.add, 1, 2)
        assert await first == 3
        assert await first == 3, "again"
        slow = executor.submit(tasks.sleep, 0.3, "slow")
        async with Ticks() as ticks:
            assert await slow == "slow"
        assert ticks.count >= 5
        with pytest.raises(ZeroDivisionError):
            await executor.submit(tasks.inverse_of_distance, 1, 1)
        with pytest.raises(disttask.WorkerCrashed):
            await executor.submit(tasks.exit_seven)
        assert await asyncio.gather(*(executor.submit(tasks.double, n) for n in range(100))) == [
            2 * n for n in range(100)
        ]

    run(main())


def test_a_cancelled_wait_cancels_what_waits(make_executor, tmp_path):
    executor = make_executor(1)
    gate = tmp_path / "gate"

    async def main():
        running = executor.submit(tasks.wait_for_file, str(gate), "ran")
        waiting = executor.submit(tasks.add, 1, 1)
        await asyncio.to_thread(wait_busy, executor)
        for future in (running, waiting):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await future
        assert waiting.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.touch()
        assert await running == "ran", "what runs goes on: cancel() has its standard meaning"

    run(main())


# --- amap ---


@pytest.mark.parametrize("way", WAYS)
def test_all_values_come(executor, way):
    async def main():
        got = [value async for value in executor.amap(tasks.double, range(2000), **way)]
        assert sorted(got) == list(range(0, 4000, 2))
        if way.get("ordered", True):
            assert got == sorted(got)
        lists = [value async for value in executor.amap(tasks.add, [[n] for n in range(100)], [[0]] * 100, **way)]
        assert sorted(lists) == [[n, 0] for n in range(100)]
        assert [value async for value in executor.amap(tasks.double, [], **way)] == []
        assert [value async for value in executor.amap(tasks.double, **way)] == []

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_the_loop_goes_on(executor, way):
    async def main():
        async with Ticks() as ticks:
            got = [value async for value in executor.amap(tasks.sleep, [0.1] * 8, range(8), **way)]
        assert sorted(got) == list(range(8))
        assert ticks.count >= 10

    run(main())


def test_results_that_come_at_once_leave_room_for_others(executor):
    async def main():
        async with Ticks() as ticks:
            count = 0
            started = time.monotonic()
            async for _ in executor.amap(tasks.double, itertools.count()):
                count += 1
                if time.monotonic() - started > 0.5:
                    break
        assert ticks.count >= 5
        assert count > 1000

    run(main())


def test_large_results(executor):
    """They are unpickled on another thread."""

    async def main():
        async for value in executor.amap(tasks.make_bytes, [3_000_000] * 20, chunksize=1):
            assert len(value) == 3_000_000

    run(main())


async def take_all(results, into):
    async for value in results:
        into.append(value)


def test_errors_end_it_or_stand_in_place(executor):
    async def main():
        for way in WAYS:
            results = executor.amap(tasks.inverse_of_distance, range(10), [5] * 10, **way)
            got = []
            with pytest.raises(ZeroDivisionError):
                await take_all(results, got)
            right = [1 / (n - 5) for n in range(10) if n != 5]
            assert set(got) <= set(right)
            if way.get("ordered", True):
                assert got == right[:5]
            assert await anext(results, "ended") == "ended"
            in_place = executor.amap(tasks.exit_at, range(20), [7] * 20, return_exceptions=True, **way)
            found = [value async for value in in_place]
            assert [type(v) for v in found if not isinstance(v, int)] == [disttask.WorkerCrashed]
            assert sorted(v for v in found if isinstance(v, int)) == [n for n in range(20) if n != 7]

    run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 2, 50])
def test_an_error_of_the_last_item(executor, way, size):
    async def main():
        got = []
        with pytest.raises(ZeroDivisionError):
            await take_all(executor.amap(tasks.inverse_of_distance, range(size), [size - 1] * size, **way), got)
        assert set(got) <= {1 / (n - size + 1) for n in range(size - 1)}

    run(main())


def test_an_error_does_not_wait_for_what_is_under_way(make_executor, tmp_path):
    executor, gate = make_executor(2), tmp_path / "gate"

    async def main():
        with pytest.raises(ZeroDivisionError):
            await take_all(executor.amap(fail_or_wait, [str(gate), "", str(gate)], chunksize=1, ordered=False), [])

    try:
        run(main(), timeout=20)
    finally:
        gate.touch()


def fail_or_wait(path):
    return tasks.wait_for_file(path) if path else 1 / 0


def test_a_time_limit(executor):
    async def main():
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async for _ in executor.amap(tasks.sleep, [0, 30], timeout=0.3):
                pass
        assert time.monotonic() - started < 10

    run(main())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["cancel", "aclose", "drop"])
def test_the_rest_is_cancelled(make_executor, tmp_path, way, how):
    executor = make_executor(1)
    log, gate = str(tmp_path / "log"), tmp_path / "gate"

    async def main():
        blocker = executor.submit(tasks.wait_for_file, str(gate))
        await asyncio.to_thread(wait_busy, executor)

        async def consume():
            async for _ in executor.amap(tasks.log, itertools.repeat(log), range(1000), **way):
                pass

        if how == "cancel":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await consume()
        else:
            results = executor.amap(tasks.log, itertools.repeat(log), range(1000), **way)
            if how == "aclose":
                await results.aclose()
                assert [value async for value in results] == []
            del results
        gate.touch()
        await blocker
        assert await executor.submit(tasks.add, 1, 1) == 2

    run(main())
    assert tasks.lines(log) == []


def test_two_that_wait_for_the_same_are_refused(executor, tmp_path):
    async def main():
        results = executor.amap(tasks.wait_for_file, [str(tmp_path / "gate")])
        first = asyncio.create_task(anext(results))
        await asyncio.sleep(0.05)
        with pytest.raises(RuntimeError, match="another coroutine already waits"):
            await anext(results)
        (tmp_path / "gate").touch()
        assert await first is None

    run(main())


def test_progress(executor, capsys):
    async def main():
        assert len([v async for v in executor.amap(tasks.double, range(30), progress="async")]) == 30

    run(main())
    assert "30/30" in capsys.readouterr().err


def test_no_wake_up_is_lost_while_workers_die(make_executor):
    """Several coroutines, each with one call under way at a time; workers are killed meanwhile."""
    executor = make_executor(2)
    stop = threading.Event()
    kills = [0]

    def kill():
        while not stop.wait(0.15):
            pid = executor.status()["workers"][kills[0] % 2]["pid"]
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills[0] += 1

    killer = threading.Thread(target=kill)
    killer.start()
    careful = executor.options(retries=100)

    async def consume(way):
        end = time.monotonic() + 2
        total = 0
        while time.monotonic() < end:
            got = [value async for value in careful.amap(tasks.double, range(50), timeout=20, **way)]
            assert sorted(got) == list(range(0, 100, 2))
            total += await careful.submit(tasks.add, 1, 1)
        return total

    async def main():
        assert all(await asyncio.gather(*(consume(way) for way in WAYS)))

    try:
        run(main(), 60)
    finally:
        stop.set()
        killer.join()
    assert kills[0] > 3


# --- async with ---


def test_async_with(make_executor):
    async def main():
        async with make_executor(1) as executor:
            future = executor.submit(tasks.sleep, 0.5, "done")
            ticks = Ticks()
            await ticks.__aenter__()
        assert ticks.count >= 10, "it waits for accepted work, and the loop goes on"
        await ticks.__aexit__()
        assert future.result(timeout=0) == "done"
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(tasks.add, 1)

    run(main())


def test_async_with_that_is_cancelled_kills_what_runs(make_executor):
    async def main():
        async with make_executor(1) as executor:
            futures.append(executor.submit(tasks.sleep, 600))
            await asyncio.sleep(600)

    futures = []
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run(main(), 1)
    assert time.monotonic() - started < 20
    wait_until(futures[0].done, 10)


# --- what goes on on another thread meanwhile ---


def test_cancelled_while_another_thread_takes_results(executor, monkeypatch):
    """Large ones are loaded aside: what that does to the list of calls must not upset the end."""
    inside, go_on = threading.Event(), threading.Event()
    monkeypatch.setattr(tasks, "on_load", lambda: (inside.set(), go_on.wait(20)))

    async def main():
        results = executor.amap(tasks.Loaded, range(50), chunksize=1)
        flow = results._flow
        waiting = asyncio.create_task(anext(results))
        await asyncio.to_thread(inside.wait, 20)
        before = len(flow._under_way)

        class Calls:
            """Those that are cancelled first. While they are, the other thread finishes what it takes from."""

            def __init__(self, calls):
                self.calls = calls

            def __getattr__(self, name):
                return getattr(self.calls, name)

            def _cancel(self):
                go_on.set()
                wait_until(lambda: len(flow._under_way) < before, 10, "a group was taken")
                self.calls._cancel()

        flow._under_way[-1].calls = Calls(flow._under_way[-1].calls)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await anext(results, "ended") == "ended"

    run(main())


def test_what_is_submitted_again_after_the_end_is_cancelled_too(executor, monkeypatch):
    """The other calls of a chunk whose worker died are, by the thread that takes the results."""
    inside, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    order = []

    async def main():
        results = executor.amap(tasks.double, range(3), chunksize=1)
        flow = results._flow

        def take():
            inside.set()
            go_on.wait(20)
            order.append("submitted again")

        def end():
            order.append("ended")
            go_on.set()
            if order[-2:] == ["submitted again", "ended"]:
                ended.set()

        monkeypatch.setattr(flow, "take", take)
        monkeypatch.setattr(flow, "end", end)
        monkeypatch.setattr(flow, "ready_bytes", lambda: 2**20)
        waiting = asyncio.create_task(anext(results))
        await asyncio.to_thread(inside.wait, 20)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(ended.wait, 10), order

    run(main())


def test_closed_while_another_coroutine_waits(make_executor, tmp_path):
    executor = make_executor(1)
    log, gate = str(tmp_path / "log"), tmp_path / "gate"

    async def main():
        results = executor.amap(tasks.wait_or_count, itertools.chain([str(gate)], [""] * 100), range(101), [log] * 101)
        waiting = asyncio.create_task(anext(results, "ended"))
        await asyncio.to_thread(wait_busy, executor)
        await asyncio.sleep(0)
        await results.aclose()
        gate.touch()
        assert await waiting == "ended"
        assert await executor.submit(tasks.add, 1, 1) == 2

    run(main())
    assert tasks.lines(log) == []
