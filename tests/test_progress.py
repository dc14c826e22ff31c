"""Progress bars: right in a terminal and in a notebook, and a clear word where there is no tqdm."""

import concurrent.futures as cf
import io
import sys

import pytest

import disttask
import tasks


def drawn(capsys):
    """The bar as it stands in the end."""
    err = capsys.readouterr().err
    return err.rsplit("\r", 1)[-1].rstrip("\n")


@pytest.mark.parametrize("way", [{}, {"ordered": False}, {"chunksize": 1, "return_exceptions": True}])
def test_it_counts_what_was_yielded(executor, capsys, way):
    assert sorted(executor.map(tasks.double, range(250), progress=True, **way)) == list(range(0, 500, 2))
    assert "250/250" in drawn(capsys)
    assert "100%" not in drawn(capsys), "nothing more is drawn"


def test_a_description_and_arguments_for_tqdm(executor, capsys):
    assert list(executor.starmap(tasks.add, [(1, 2), (3, 4)], progress="adding")) == [3, 7]
    assert drawn(capsys).startswith("adding: 100%")
    file = io.StringIO()
    results = executor.map_unordered(tasks.double, iter(range(9)), progress={"desc": "mine", "file": file, "total": 18})
    assert len(list(results)) == 9
    assert "mine:  50%" in file.getvalue()
    assert "9/18" in file.getvalue()


def test_an_input_of_unknown_length_is_counted(executor, capsys):
    assert len(list(executor.map(tasks.double, iter(range(30)), progress=True))) == 30
    assert "30it" in drawn(capsys)


def test_the_bar_is_closed_however_it_ends(executor, capsys):
    results = executor.map(tasks.inverse_of_distance, range(20), [10] * 20, chunksize=1, progress="fails")
    with pytest.raises(ZeroDivisionError):
        list(results)
    assert "10/20" in drawn(capsys)
    results = executor.map(tasks.double, range(20), progress="left")
    next(results)
    results.close()
    assert list(results) == []
    assert "1/20" in drawn(capsys)
    results = executor.map(tasks.double, range(20), progress="dropped")
    next(results)
    del results
    assert "1/20" in drawn(capsys)
    from tqdm import tqdm

    assert not list(getattr(tqdm, "_instances", []))
    with pytest.raises(TypeError, match="needs a callable"):
        executor.map(3, [1], progress=True)
    assert not list(getattr(tqdm, "_instances", []))


def test_as_completed_and_wait(executor, capsys):
    futures = [executor.submit(tasks.double, n) for n in range(40)]
    found = [future.result() for future in disttask.as_completed(futures, timeout=20, progress="done")]
    assert sorted(found) == list(range(0, 80, 2))
    assert "done: 100%" in drawn(capsys)
    assert set(disttask.as_completed(futures)) == set(futures)
    assert capsys.readouterr().err == ""
    done, not_done = disttask.wait(futures, timeout=20)
    assert (done, not_done) == (set(futures), set())
    held = executor.submit(tasks.sleep, 30)
    with pytest.raises(TimeoutError):
        list(disttask.as_completed([held], timeout=0.1))
    assert disttask.wait([held], timeout=0.1, return_when=cf.FIRST_COMPLETED).not_done == {held}


def test_what_is_no_progress_is_refused(executor):
    for wrong in (1, None, ["description"]):
        with pytest.raises(TypeError, match="progress must be a bool, a description or a dict"):
            executor.map(tasks.double, [1], progress=wrong)


def test_without_tqdm_it_says_what_to_do(executor, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError, match="progress bars need tqdm, which is not installed: pip install tqdm"):
        executor.map(tasks.double, [1], progress=True)
    assert list(executor.map(tasks.double, [1])) == [2]
    assert executor.status()["totals"]["submitted"] == 1, "nothing was submitted in vain"


def test_in_a_notebook_it_is_tqdms_own(executor, monkeypatch):
    """`tqdm.auto` decides; whatever it decides for is used."""
    import tqdm.auto

    made = []

    class Widget:
        def __init__(self, **kwargs):
            self.kwargs, self.count, self.closed = kwargs, 0, False
            made.append(self)

        def update(self, count):
            self.count += count

        def close(self):
            self.closed = True

    monkeypatch.setattr(tqdm.auto, "tqdm", Widget)
    assert len(list(executor.map(tasks.double, range(7), progress="cells"))) == 7
    (widget,) = made
    assert widget.kwargs == {"total": 7, "desc": "cells"}
    assert (widget.count, widget.closed) == (7, True)
