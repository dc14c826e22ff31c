"""The program ends while somebody holds results of a `map` that has not read all of its input.

`ProcessPoolExecutor` has submitted all of it by then, and waits for it. So is it here, where the input has a length.
"""

import signal

import pytest

import tasks

COUNT = 2000

BEGIN = f"""
import asyncio, itertools, sys, time
import disttask, tasks

executor = disttask.Executor(2)
log = sys.argv[1]
several = (itertools.repeat(log), range({COUNT}))
"""


def numbers(path):
    return sorted(map(int, tasks.lines(path)))


@pytest.mark.parametrize(
    ("statement", "end", "status"),
    [
        ("results = executor.map(tasks.log, *several)", "", 0),
        ("results = executor.map(tasks.log, *several, chunksize=1)", "", 0),
        ("results = executor.map(tasks.log, *several, chunksize=300)", "sys.exit(3)", 3),
        ("results = executor.map_unordered(tasks.log, *several)", "raise ValueError('on purpose')", 1),
        ("results = executor.options(retries=1).map(tasks.log, *several)", "del executor", 0),
        (f"results = executor.starmap(tasks.log, [(log, n) for n in range({COUNT})])", "", 0),
        ("results = executor.map(tasks.log, *several, return_exceptions=True)", "next(results)", 0),
        ("results = executor.amap(tasks.log, *several)", "asyncio.run(anext(results))", 0),
    ],
)
def test_all_calls_are_made(start_script, tmp_path, statement, end, status):
    log = tmp_path / "log"
    ended = start_script(f"{BEGIN}\n{statement}\n{end}", args=[str(log)]).wait(30)
    assert ended.status == status, ended.err
    assert numbers(log) == list(range(COUNT))
    assert "Warning" not in ended.err
    assert ("Traceback" in ended.err) == (status == 1)


def test_maps_of_several_executors_that_read_each_other(run_script, tmp_path):
    source = """
other = disttask.Executor(1)
doubled = other.map(tasks.double, range(1000))
results = executor.map(tasks.log, [log] * 1000, doubled)
"""
    run_script(BEGIN + source, args=[str(tmp_path / "log")])
    assert numbers(tmp_path / "log") == list(range(0, 2000, 2))


@pytest.mark.parametrize("end", ["results.close()", "del results", "executor.shutdown(cancel_futures=True)"])
def test_none_that_nobody_wants_any_more(run_script, tmp_path, end):
    slow = "executor.map(tasks.logged_sleep, *several, itertools.repeat(0.01), chunksize=1)"  # few are sent ahead
    source = f"results = {slow}\nnext(results)\n{end}"
    ended = run_script(f"{BEGIN}\n{source}", args=[str(tmp_path / "log")])
    assert ended.err == ""
    assert 0 < len(numbers(tmp_path / "log")) < COUNT // 2


@pytest.mark.parametrize("flags", [(), ("-W", "error")], ids=["", "warnings are errors"])
@pytest.mark.parametrize(
    "how", ["map(tasks.log, several[0], itertools.count())", "map(tasks.log, *several, buffersize=8)"]
)
def test_one_that_may_be_endless_is_warned_about(run_script, tmp_path, how, flags):
    """What was submitted is done, as other work is."""
    ended = run_script(f"{BEGIN}\nresults = executor.{how}", args=[str(tmp_path / "log")], flags=flags)
    (line,) = ended.err.splitlines()
    assert line.endswith(
        "nobody has taken a result of map(log, ...), so the rest of its input was not read: write "
        "list(executor.map(log, ...)), or use submit"
    )
    found = numbers(tmp_path / "log")
    assert found
    assert found == list(range(len(found)))


@pytest.mark.parametrize("method", ["map", "amap"])
def test_not_where_some_were_taken(run_script, tmp_path, method):
    take = "next(results)" if method == "map" else "asyncio.run(anext(results))"
    source = f"results = executor.{method}(tasks.log, several[0], itertools.count())\n{take}"
    assert run_script(f"{BEGIN}\n{source}", args=[str(tmp_path / "log")]).err == ""


@pytest.mark.parametrize("order", [1, -1])
def test_an_input_that_raises_system_exit_costs_no_other_work(run_script, tmp_path, order):
    source = f"""
class Leaves:
    def __len__(self):
        return 10 ** 9

    def __iter__(self):
        for number in itertools.count():
            if reached:
                raise SystemExit(3)
            yield number

reached = []
one, other = [executor, disttask.Executor(1)][::{order}]
results = one.map(abs, Leaves())
futures = [other.submit(tasks.logged_sleep, log, number, 0.2) for number in range(4)]
futures += [one.submit(tasks.log, log, number) for number in range(4, 8)]
reached.append(True)
"""
    ended = run_script(BEGIN + source, args=[str(tmp_path / "log")], alarms=())
    assert numbers(tmp_path / "log") == list(range(8))
    assert "SystemExit: 3" in ended.err


def test_ctrl_c_while_the_rest_is_read(start_script, tmp_path):
    """It is cut short, as all that is waited for, and says so."""
    source = """
class Slow:
    def __len__(self):
        return 10 ** 9

    def __iter__(self):
        for number in itertools.count():
            if reached:
                print("reading", flush=True)
                time.sleep(60)
            yield number

reached = []
results = executor.map(tasks.log, itertools.repeat(log), Slow())
reached.append(True)
"""
    script = start_script(BEGIN + source, args=[str(tmp_path / "log")])
    script.wait_out("reading")
    script.send(signal.SIGINT)
    ended = script.wait(8)
    assert ended.status == -signal.SIGINT
    (line,) = ended.err.splitlines()
    assert line.startswith("disttask: interrupted at exit (KeyboardInterrupt): ")
