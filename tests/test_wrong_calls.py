"""Arguments of a wrong type: the error comes from the call itself, says what to write, and names nothing of ours."""

import itertools

import pytest

import disttask
from helpers import assert_usable

# --- options and arguments ---


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"initializer": print, "initargs": 5}, r"initargs must be a tuple .* initargs=\(x,\), not int"),
        ({"initializer": print, "initargs": "path"}, r"initargs=\(x,\), not str"),
        ({"initargs": 5}, r"initargs must be a tuple"),
        ({"preload": 5}, "preload must be a list of module names, not int"),
        ({"preload": "json"}, r"preload=\['json'\]"),
        ({"env": 5}, "env must map str to str, as a dict does, not be of type int"),
        ({"env": ["ab", "c"]}, "env must map str to str"),
        ({"context": 5}, "context must be a list of contextvars.ContextVar, not int"),
        ({"executable": 5}, "executable must be a path .* not int"),
        ({"executable": b"python"}, "executable must be a path .* not bytes"),
        ({"capture_output": "false"}, "capture_output must be a bool, not str"),
        ({"forward_logging": 0}, "forward_logging must be a bool, not int"),
    ],
    ids=str,
)
def test_an_executor(arguments, text):
    with pytest.raises(TypeError, match=text):
        disttask.Executor(1, **arguments)


def test_initargs_may_be_a_list_as_elsewhere(make_executor):
    assert_usable(make_executor(1, initializer=divmod, initargs=[7, 2]), 10)


@pytest.mark.parametrize("tags", [5, "one", b"one"])
def test_tags(tags):
    with pytest.raises(TypeError, match=f"tags must be a list of strings, not (a )?{type(tags).__name__}"):
        disttask.options(tags=tags)


@pytest.mark.parametrize("option", ["retry_on", "soft_timeout", "kill_on_cancel"])
def test_a_client_says_that_an_option_is_not_for_a_server(option):
    client = disttask.Client(token="")
    with pytest.raises(TypeError, match=f"^{option} is not for tasks that go to a server.*: leave it out") as caught:
        client.options(**{option: 1})
    assert str(caught.value).endswith("max_memory, name, priority, retries, tags, timeout")


def test_a_client_says_which_options_there_are():
    with pytest.raises(TypeError, match=r"there is no option 'retry': Client\.options takes backoff, .* timeout"):
        disttask.Client(token="").options(retry=1)


def test_a_client_that_is_given_one_text_for_many():
    client = disttask.Client(token="")
    for one in (5, None):
        with pytest.raises(TypeError, match="submit_many takes task texts"):
            client.submit_many(one)


# --- map and its relatives ---


def ways(executor):
    return executor.map, executor.starmap, executor.map_unordered, executor.amap, executor.options(retries=1).map


def test_an_input_that_cannot_be_iterated_over(executor):
    for way in ways(executor):
        name = way.__name__
        with pytest.raises(TypeError, match=f"^{name} needs something to iterate over, not int: {name}"):
            way(abs, 5)
    with pytest.raises(TypeError, match=r"not int: .* goes as itertools.repeat\(x\)"):
        executor.map(pow, [1, 2], 3)
    assert_usable(executor, 10)


class ByIndex:
    """Can be iterated over without an ``__iter__``."""

    def __getitem__(self, index):
        return [[-1], [-2]][index]


def test_whatever_iter_takes_is_an_input(executor):
    assert list(executor.starmap(abs, ByIndex())) == [1, 2]
    assert list(executor.map(len, ByIndex())) == [1, 1]


@pytest.mark.parametrize("how", [{}, {"chunksize": 1}, {"ordered": False}, {"return_exceptions": True}], ids=str)
@pytest.mark.parametrize("kind", [list, iter, lambda items: (item for item in items)])
def test_starmap_of_items_that_hold_no_arguments(executor, kind, how):
    with pytest.raises(TypeError, match=r"starmap\(f, \[\(1, 2\), \(3, 4\)\]\), and one does not .* not iterable"):
        executor.starmap(pow, kind([None, (1, 2)]), **how)
    assert_usable(executor, 10)


def test_one_that_comes_later_is_an_error_in_its_turn(executor):
    results = executor.starmap(pow, [(2, 3), (3, 2), 5])
    assert [next(results), next(results)] == [8, 9]
    with pytest.raises(TypeError, match="each item of starmap must hold all arguments"):
        next(results)


def test_the_inputs_own_errors_stay_its_own(executor):
    def numbers():
        yield from 5

    for items, text in ((numbers(), "^'int' object is not iterable$"), (map(int, [None]), r"^int\(\) argument")):
        results = executor.starmap(pow, items)
        with pytest.raises(TypeError, match=text):
            next(results)
    results = executor.map(abs, itertools.chain([-1], map(int, [None])))
    assert next(results) == 1
    with pytest.raises(TypeError, match=r"^int\(\) argument"):
        next(results)


def test_results_of_a_map_as_an_argument(executor):
    for results in (executor.map(abs, [-1]), executor.map(abs, [-1], ordered=False), executor.amap(abs, [-1])):
        error = executor.submit(list, results).exception(timeout=10)
        assert type(error) is disttask.SerializationError
        assert "argument 1 (of type " in str(error)
        assert "cannot be sent to another process: pass " in str(error)
        assert "type _" not in str(error)
        results.close()


# --- names ---


def test_what_python_says_of_a_missing_argument_names_what_is_public(executor):
    options = executor.options(retries=1)
    for call, name in (
        (executor.map, "Executor.map"),
        (options.starmap, "Executor.starmap"),
        (executor.amap, "Executor.amap"),
        (options.submit, "Submitter.submit"),
    ):
        with pytest.raises(TypeError, match=rf"^{name}\(\) missing [12] required"):
            call()
    for wrong in ({}, {"fn": abs}):
        with pytest.raises(TypeError, match=r"submit\(\) missing 1 required positional argument: 'fn'$"):
            executor.submit(**wrong)


def error_inside(executor, name, *args):
    try:
        getattr(executor, name)(*args)
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def test_what_an_executor_has_not_inside_a_task(executor):
    def inside(name, *args):
        return executor.submit(error_inside, executor, name, *args).result(timeout=10)

    for name in ("resize", "restart", "starmap", "kill_workers"):
        assert inside(name) == (
            f"AttributeError: {name} is for the process that has made the executor: inside a task it is not there"
        )
    assert inside("status") == "RuntimeError: status is for the process that has made the executor"
    assert inside("nothing") == "AttributeError: 'Executor' object has no attribute 'nothing'"
    assert inside("submit").startswith("TypeError: Executor.submit() missing 1 required")
    assert inside("options", 1).startswith("TypeError: Executor.options() takes 1 positional argument")


@pytest.mark.parametrize("call", ["cancel", "kill"])
def test_a_client_that_is_given_a_number_for_a_task(call):
    with pytest.raises(TypeError, match="a task id is a str, not int"):
        getattr(disttask.Client(token=""), call)(5)


def test_what_to_wait_for_is_checked(executor):
    done = executor.submit(abs, -1)
    assert disttask.wait([done], return_when="FIRST_COMPLETED").done == {done}
    with pytest.raises(ValueError, match=r"return_when must be ALL_COMPLETED, .*, not 'FIRST'"):
        disttask.wait([done], return_when="FIRST")
