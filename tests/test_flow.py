"""The variants of `map`: bounds, any order, errors in place, star arguments, an end before the end."""

import itertools
import threading
import time

import pytest

import disttask
import tasks
from helpers import counted_class, wait_until

WAYS = [
    {},
    {"chunksize": 1},
    {"chunksize": 3},
    {"chunksize": 1000},
    {"buffersize": 5},
    {"buffersize": 5, "chunksize": 1},
    {"ordered": False},
    {"ordered": False, "chunksize": 1},
    {"ordered": False, "chunksize": 3, "buffersize": 4},
    {"return_exceptions": True},
    {"return_exceptions": True, "chunksize": 1, "ordered": False},
]


def name(way):
    return ",".join(f"{key}={value}" for key, value in way.items()) or "default"


@pytest.fixture(params=WAYS, ids=name)
def way(request):
    return request.param


@pytest.mark.parametrize(
    "values",
    [
        list(range(3000)),
        ["text", b"bytes", None, 2.5, True] * 20,
        [[n] for n in range(200)],
        [{"a": "b" * 500}] * 50,
        [],
    ],
    ids=["ints", "plain", "lists", "dicts", "none"],
)
def test_every_value_comes_back_once(executor, way, values):
    found = list(executor.map(tasks.same, values, **way))
    if way.get("ordered", True):
        assert found == values
    else:
        assert sorted(map(repr, found)) == sorted(map(repr, values))


def test_several_inputs_and_the_shortest_ends(executor, way):
    found = list(executor.map(tasks.add, range(100), itertools.count(), **way))
    assert sorted(found) == [2 * n for n in range(100)]


def test_functions_by_value(executor, way):
    factor = [7]
    assert sorted(executor.map(lambda n: n * factor[0], range(50), **way)) == [7 * n for n in range(50)]


# --- starmap, map_unordered ---


def test_starmap(executor, way):
    pairs = [(n, n + 1) for n in range(100)]
    assert sorted(executor.starmap(tasks.add, pairs, **way)) == sorted(a + b for a, b in pairs)


def test_starmap_takes_what_itertools_takes(executor):
    assert list(executor.starmap(tasks.add, iter([[1], [1, 2], (3, 4), "ab"]))) == [2, 3, 7, "ab"]
    assert list(executor.starmap(tasks.add, [])) == []
    with pytest.raises(TypeError):
        list(executor.starmap(tasks.add, [1]))


def test_map_unordered_yields_what_is_there(executor, tmp_path):
    gate = tmp_path / "gate"
    items = [str(gate)] + [""] * 200
    for way in ({}, {"chunksize": 1}, {"buffersize": 20}):
        gate.unlink(missing_ok=True)
        results = executor.map_unordered(tasks.wait_or_value, items, range(201), **way)
        early = list(itertools.islice(results, 150 if not way.get("buffersize") else 10))
        assert 0 not in early, "the first is still held"
        gate.touch()
        assert sorted([*early, *results]) == list(range(201))


# --- errors ---


@pytest.mark.parametrize("way", [w for w in WAYS if not w.get("return_exceptions")], ids=name)
def test_an_error_ends_the_iteration(executor, way):
    results = executor.map(tasks.inverse_of_distance, range(100), itertools.repeat(50), **way)
    got = []
    with pytest.raises(ZeroDivisionError):
        got.extend(results)
    assert next(results, "ended") == "ended"
    right = [1 / (n - 50) for n in range(100) if n != 50]
    if way.get("ordered", True):
        assert got == right[:50]
    assert set(got) <= set(right)


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_errors_in_place(executor, chunksize, ordered):
    items = range(300)
    points = itertools.cycle([0, 1, 2])
    found = list(
        executor.map(
            tasks.inverse_of_distance, items, points, chunksize=chunksize, ordered=ordered, return_exceptions=True
        )
    )
    assert len(found) == 300
    errors = [value for value in found if isinstance(value, BaseException)]
    assert {type(error) for error in errors} == {ZeroDivisionError}
    assert len(errors) == 3
    if ordered:
        assert [n for n, value in enumerate(found) if isinstance(value, BaseException)] == [0, 1, 2]


@pytest.mark.parametrize("chunksize", [None, 1, 10, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_death_in_place(executor, chunksize, ordered):
    """The item that killed its worker is named; all others come, those behind it in its chunk too."""
    found = list(
        executor.map(
            tasks.exit_at,
            range(200),
            itertools.repeat(77),
            chunksize=chunksize,
            ordered=ordered,
            return_exceptions=True,
        )
    )
    crashes = [value for value in found if isinstance(value, disttask.WorkerCrashed)]
    assert [crash.exit_status for crash in crashes] == [9]
    rest = [value for value in found if not isinstance(value, disttask.WorkerCrashed)]
    assert sorted(rest) == [n for n in range(200) if n != 77]
    if ordered:
        assert rest == sorted(rest)
        assert found[77] is crashes[0]


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_what_cannot_be_pickled_in_place(executor, chunksize):
    items = [1, threading.Lock(), 3, 4, threading.Lock(), 6]
    found = list(executor.map(tasks.same, items, chunksize=chunksize, return_exceptions=True))
    assert [type(value) for value in found] == [
        int,
        disttask.SerializationError,
        int,
        int,
        disttask.SerializationError,
        int,
    ]
    got = []
    with pytest.raises(disttask.SerializationError, match="cannot be pickled"):
        got.extend(executor.map(tasks.same, items, chunksize=4))
    assert got == [1], "what came before arrives"
    found = list(executor.map(tasks.make_lock, range(3), chunksize=chunksize, return_exceptions=True))
    assert [type(value) for value in found] == [disttask.SerializationError] * 3


def test_an_input_that_raises_is_no_error_of_an_item(executor):
    def numbers():
        yield from range(50)
        raise LookupError("no more")

    got = []
    with pytest.raises(LookupError, match="no more"):
        got.extend(executor.map(tasks.double, numbers(), return_exceptions=True, chunksize=1))
    assert got == [2 * n for n in range(50)]


def test_timeouts_and_retries_are_of_each_item(executor, tmp_path):
    quick = executor.options(timeout=0.3)
    found = list(quick.map(tasks.sleep, [0, 60, 0], [1, 2, 3], return_exceptions=True))
    assert found[0] == 1
    assert isinstance(found[1], disttask.TaskTimeout)
    assert found[2] == 3
    careful = executor.options(retries=3)
    paths = [str(tmp_path / str(n)) for n in range(4)]
    assert list(careful.map_unordered(tasks.fail_once, paths, ["kill"] * 4)) == ["survived"] * 4


# --- bounds ---


def counted():
    """Numbers, and how many of them were read."""
    read = [0]

    def numbers():
        for n in itertools.count():
            read[0] += 1
            yield n

    return numbers(), read


@pytest.mark.parametrize(("buffersize", "chunksize", "bound"), [(1, None, 1), (4, None, 4), (7, 1, 7), (3, 5, 15)])
def test_a_buffer_bounds_what_is_read(executor, buffersize, chunksize, bound):
    numbers, read = counted()
    results = executor.map(tasks.double, numbers, buffersize=buffersize, chunksize=chunksize)
    assert read[0] == min(bound, 6 * (chunksize or 1)), "the first calls are submitted at once"
    for n in range(500):
        assert next(results) == 2 * n
        assert read[0] - n <= bound, n
    results.close()
    assert read[0] <= 500 + bound


def test_a_large_buffer_is_used(executor, tmp_path):
    """More than a few calls wait behind one that is long, and no more than it holds."""
    gate = tmp_path / "gate"
    results = executor.map(
        tasks.wait_or_value, [str(gate)] + [""] * 1000, range(1001), chunksize=1, buffersize=400, timeout=60
    )
    reader = threading.Thread(target=lambda: setattr(reader, "found", list(results)))
    reader.start()
    wait_until(lambda: executor.status()["totals"]["succeeded"] >= 399, 20, "the others ran")
    time.sleep(0.1)
    assert executor.status()["totals"]["succeeded"] == 399, "and no more"
    gate.touch()
    reader.join()
    assert reader.found == list(range(1001))


@pytest.mark.parametrize("bad", [0, -1])
def test_a_buffer_is_checked_as_the_standard_library_does(executor, bad):
    for method in (executor.map, executor.map_unordered, executor.amap):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            method(tasks.same, [1], buffersize=bad)
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            method(tasks.same, [1], chunksize=bad)
    for wrong in ("ten", 2.5):
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.starmap(tasks.same, [(1,)], buffersize=wrong)
        with pytest.raises(TypeError, match="chunksize must be an int or None"):
            executor.starmap(tasks.same, [(1,)], chunksize=wrong)
    with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
        executor.map(tasks.same, [1], timeout="1")
    with pytest.raises(ValueError, match="not nan"):
        executor.map(tasks.same, [1], timeout=float("nan"))
    with pytest.raises(TypeError, match="needs a callable"):
        executor.map(3, [1], chunksize=1)


def test_without_inputs_there_is_nothing(executor):
    assert list(executor.map(tasks.same)) == []


def test_a_time_limit(executor):
    for way in ({}, {"chunksize": 1}, {"ordered": False}):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            list(executor.map(tasks.sleep, [0, 30], timeout=0.3, **way))
        assert time.monotonic() - started < 10
        executor._pool.pids()


# --- an end before the end ---


@pytest.mark.parametrize("way", [w for w in WAYS if w.get("chunksize", 1) < 1000], ids=name)
@pytest.mark.parametrize("how", ["close", "drop"])
@pytest.mark.filterwarnings("ignore:nobody has taken a result:RuntimeWarning")
def test_nothing_more_runs(make_executor, tmp_path, way, how):
    executor = make_executor(1)
    log, gate = str(tmp_path / "log"), tmp_path / "gate"
    blocker = executor.submit(tasks.wait_for_file, str(gate))
    results = executor.map(tasks.log, itertools.repeat(log), itertools.count(), **way)
    if how == "close":
        results.close()
        assert next(results, "ended") == "ended"
        results.close()
    results = None
    gate.touch()
    blocker.result(timeout=10)
    assert executor.submit(tasks.add, 1, 1).result(timeout=20) == 2
    assert len(tasks.lines(log)) <= way.get("chunksize", 1)


def test_close_in_the_middle(executor, way):
    results = executor.map(tasks.same, itertools.count(), **way)
    first = [next(results) for _ in range(10)]
    results.close()
    assert list(results) == []
    assert len(set(first)) == 10


# --- memory, and the tail ---


@pytest.mark.parametrize(
    ("way", "bound"),
    [({"chunksize": 1}, 20_000), ({"ordered": False}, 250_000), ({"buffersize": 1000}, 1001)],
    ids=["chunksize", "unordered", "buffersize"],
)
def test_memory_stays_flat_over_an_endless_input(executor, way, bound):
    Item = counted_class()

    most = 0
    for n, _value in enumerate(executor.map(tasks.double, map(Item, itertools.count()), **way)):
        if n % 500 == 0:
            most = max(most, Item.alive)
        if n == 300_000:
            break
    assert most <= bound


def test_a_long_item_holds_up_only_itself(executor, tmp_path):
    """The others in its group come to the other worker, and their results (in any order) to the caller."""
    gate = tmp_path / "gate"
    list(executor.map(tasks.wait_or_value, [""] * 2000, range(2000), chunksize=1))  # groups are large by now
    items = [""] * 500 + [str(gate)] + [""] * 1500
    results = executor.map_unordered(tasks.wait_or_value, items, range(2001), chunksize=1)
    early = list(itertools.islice(results, 2000))
    assert 500 not in early
    gate.touch()
    assert list(results) == [500]


def test_long_items_at_the_end_are_shared(executor):
    """Chunks are large by then, for the others were quick; no worker gets all that is left."""
    for _ in range(3):
        list(executor.map(tasks.sleep_or_count, [0] * 20_000))  # quick ones
    pids = list(executor.map(tasks.sleep_or_count, [0] * 20_000 + [0.05] * 40))
    assert len(set(pids[-40:])) == 2
