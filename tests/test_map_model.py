"""Every kind of map beside a plain loop: what comes, in which order, and which error, for random inputs and ways."""

import asyncio
import os
import random
import threading
import time
from collections import Counter

import pytest

import disttask

SECONDS = 120 if os.environ.get("DISTTASK_FULL") else 6
SIZES = [0, 1, 2, 3, 7, 50, 400, 3000]
SIZE_WITH_DEATHS = 50
"""Each costs a worker."""

ERRORS = {
    "raises": ValueError,
    "dies": disttask.WorkerCrashed,
    "returns a lock": disttask.SerializationError,
    "cannot be loaded": disttask.DeserializationError,
}


class Unloadable:
    def __reduce__(self):
        return _refuse_to_load, ()


def _refuse_to_load():
    raise OSError("not here")


def double(item, _other=None):
    number, fault = item
    match fault:
        case "raises":
            raise ValueError(number)
        case "dies":
            os._exit(3)
        case "returns a lock":
            return threading.Lock()
    return 2 * number


class Case:
    """One random map, and what a loop would have made of it."""

    def __init__(self, rng):
        self.kind = rng.choice(["map", "of a generator", "of two", "starmap", "with an option", "amap"])
        fault = rng.choice(list(ERRORS))
        size = rng.choice(SIZES)
        if fault == "dies":
            size = min(size, SIZE_WITH_DEATHS)
        count = rng.choice([0, 0, 1, 1, 2, 5]) if size else 0
        self.faults = {rng.choice([0, size - 1, rng.randrange(size)]): fault for _ in range(count)}
        self.way = {
            name: rng.choice(values)
            for name, values in (
                ("chunksize", [1, 2, 3, 7, 64, 1000]),
                ("buffersize", [1, 2, 5, 100]),
                ("ordered", [False]),
                ("return_exceptions", [True]),
                ("timeout", [60]),
            )
            if rng.random() < 0.4
        }
        self.items = [self._item(number) for number in range(size)]
        self.expected = [ERRORS[fault] if number in self.faults else 2 * number for number in range(size)]

    def _item(self, number):
        fault = self.faults.get(number)
        return Unloadable() if fault == "cannot be loaded" else (number, fault)

    def __repr__(self):
        return f"{self.kind} of {len(self.items)} with {self.faults}, {self.way}"

    def run(self, executor):
        """What came, errors by their class, and the class of what was raised."""
        got = []
        try:
            if self.kind == "amap":
                asyncio.run(self._run_async(executor, got))
            else:
                got.extend(_shown(value) for value in self._start(executor))
        except tuple(ERRORS.values()) as exc:
            return got, type(exc)
        return got, None

    def _start(self, executor):
        match self.kind:
            case "of a generator":
                return executor.map(double, iter(self.items), **self.way)
            case "of two":
                return executor.map(double, self.items, range(len(self.items)), **self.way)
            case "starmap":
                return executor.starmap(double, [(item, 0) for item in self.items], **self.way)
            case "with an option":
                return executor.options(priority=1).map(double, self.items, **self.way)
        return executor.map(double, self.items, **self.way)

    async def _run_async(self, executor, got):
        async for value in executor.amap(double, self.items, **self.way):
            got.append(_shown(value))

    def check(self, got, error):
        ordered = self.way.get("ordered", True)
        wrong = [index for index, value in enumerate(self.expected) if isinstance(value, type)]
        if wrong and not self.way.get("return_exceptions"):
            assert error is self.expected[wrong[0]]
            if ordered:
                assert got == self.expected[: wrong[0]]
            else:
                assert len(set(got)) == len(got)
                assert set(got) <= set(self.expected) - set(ERRORS.values())
        else:
            assert error is None
            assert (got if ordered else Counter(got)) == (self.expected if ordered else Counter(self.expected))


def _shown(value):
    return value if isinstance(value, int) else type(value)


@pytest.mark.timeout(60 + 2 * SECONDS)
def test_as_a_loop_would(make_executor):
    seed = int(os.environ.get("DISTTASK_SEED", random.randrange(2**32)))
    rng, executor = random.Random(seed), make_executor(2)
    end, count, faults = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < end:
        case = Case(rng)
        print(f"seed {seed}, case {count}: {case}")
        case.check(*case.run(executor))
        count += 1
        faults += len(case.faults)
    assert count > 10
    assert faults > 5
