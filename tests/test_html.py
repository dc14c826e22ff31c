"""What a notebook shows of an executor and a future: escaped, and never at the price of a wait or of unpickling."""

import os
import re
import threading
from html.parser import HTMLParser

import pytest

import disttask
from helpers import wait_busy, wait_until

VOID = ("br", "img", "hr")


class Checked(HTMLParser):
    """Every element is closed where it should be."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def wait_for(gate):
    while not os.path.exists(gate):
        pass


class Loud:
    """Tells when it is unpickled in the host."""

    def __init__(self, note):
        self.note = note

    def __reduce__(self):
        return Loud.tell, (self.note,)

    @staticmethod
    def tell(note):
        if os.environ.get("DISTTASK_TEST_HOST") == str(os.getpid()):
            open(note, "w").close()
        return Loud(note)


class Evil:
    def __repr__(self):
        return "<script>alert(1)</script>" + 10_000 * "x"


class Broken:
    def __repr__(self):
        raise OSError("no repr")


def evil():
    return Evil()


def fail(text):
    raise ValueError(text)


def test_an_executor_shows_workers_and_counts(executor, tmp_path):
    running = executor.submit(wait_for, tmp_path / "gate")
    wait_busy(executor)
    html = Checked(executor._repr_html_())
    assert html.tags.count("tr") == 3  # the head, and two workers
    assert "0 queued · 1 running · 0 done" in html.text
    assert "busy" in html.text
    assert "wait_for" in html.text
    (tmp_path / "gate").touch()
    running.result(timeout=10)
    assert "0 running · 1 done" in Checked(executor._repr_html_()).text
    executor.shutdown()
    assert "shut down" in Checked(executor._repr_html_()).text


def test_colours_are_the_pages_own(executor):
    html = executor._repr_html_() + executor.submit(abs, -1)._repr_html_()
    colours = set(re.findall(r"(?:background|background-color|(?<!-)color):([^;\"]+)", html))
    assert {colour for colour in colours if not re.fullmatch(r"#[0-9a-f]{3,6}", colour)} <= {"none", "inherit"}
    assert "background:#" not in html


def test_many_workers_make_no_long_table(make_executor):
    executor = make_executor(20)
    html = Checked(executor._repr_html_())
    assert html.tags.count("tr") == 17
    assert "20 workers, 16 of them below" in html.text


def test_a_future_shows_its_state_and_a_value_that_is_here(executor, tmp_path):
    first = executor.submit(wait_for, tmp_path / "gate")
    wait_until(first.running, 10, "it runs")
    assert re.search(r"disttask.Future · ●\s*running · wait_for · ", Checked(first._repr_html_()).text)
    others = [executor.submit(wait_for, tmp_path / "gate") for _ in range(5)]
    assert "pending" in Checked(others[-1]._repr_html_()).text
    assert others[-1].cancel()
    assert "cancelled" in Checked(others[-1]._repr_html_()).text
    (tmp_path / "gate").touch()
    first.result(timeout=10)
    assert "NoneType: None" in Checked(first._repr_html_()).text


def test_a_failed_future_shows_the_error_once_it_was_looked_at(executor):
    future = executor.submit(fail, "<i>why</i>")
    wait_until(future.done, 10)
    assert "failed" in Checked(future._repr_html_()).text
    assert "why" not in future._repr_html_()
    assert future.exception() is not None
    html = Checked(future._repr_html_())
    assert "ValueError: ValueError('<i>why</i>')" in html.text
    assert "i" not in html.tags


def test_nothing_is_unpickled(executor, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTTASK_TEST_HOST", str(os.getpid()))
    note = tmp_path / "note"
    future = executor.submit(Loud, note)
    wait_until(future.done, 10)
    assert "succeeded" in Checked(future._repr_html_()).text
    assert not note.exists()
    future.result()
    assert note.exists()


def test_everything_is_escaped_and_short(executor):
    def named():
        return Evil()

    named.__qualname__ = named.__name__ = "<script>alert(2)</script>"
    future = executor.submit(named)
    future.result(timeout=10)
    html = future._repr_html_()
    assert "script" not in Checked(html).tags
    assert len(html) < 1000
    assert "script" not in Checked(executor._repr_html_()).tags


@pytest.mark.parametrize("value", [Broken, list, dict])
def test_a_value_without_a_repr_is_no_error(executor, value):
    future = executor.submit(value)
    future.result(timeout=10)
    assert value.__name__ in Checked(future._repr_html_()).text


def test_a_future_of_a_pool_that_is_gone(make_executor):
    executor = make_executor(1)
    future = executor.submit(abs, -1)
    executor.shutdown()
    assert "succeeded" in Checked(future._repr_html_()).text
    assert "failed" in Checked(disttask.Future._failed(ValueError())._repr_html_()).text


def test_it_does_not_wait(executor, tmp_path):
    """Not even for the thread that shows output."""
    future = executor.submit(wait_for, tmp_path / "gate")
    shown = []
    thread = threading.Thread(target=lambda: shown.extend([future._repr_html_(), executor._repr_html_()]))
    thread.start()
    thread.join(timeout=5)
    assert len(shown) == 2
    (tmp_path / "gate").touch()


SCRIPT = """
import sys
import disttask
with disttask.Executor(1) as executor:
    executor.submit(print, "hello").result()
    executor._repr_html_()
print([name for name in ("IPython", "ipykernel", "asyncio") if name in sys.modules])
"""


def test_a_script_imports_nothing_of_jupyters(run_script):
    assert run_script(SCRIPT).out == "hello\n[]\n"
