"""The dashboard in a real browser, headless: what a person does with it, and what must never happen in it.

Chromium is Debian's; where there is none, these tests are left out, unless ``DISTTASK_BROWSER`` says ``required``.
Screenshots go to the folder that ``DISTTASK_SCREENSHOTS`` names.
"""

import base64
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

import disttask
import hostile
import tasks
from helpers import wait_busy, wait_until
from payloads import PAYLOADS
from web import native_door, running_executor

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PYTHON = "{}.{}".format(*sys.version_info[:2])
WIDTHS = (1280, 390)
BATCH = 50
"""Payloads shown at once: two tasks each, and one event tells of at most 100 tasks that have ended."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("DISTTASK_BROWSER") != "required", reason="no Chromium here"
)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def door(tmp_path):
    with running_executor(2) as executor, native_door(executor, tmp_path) as door:
        yield door


def task_text(name, func, *args):
    body = base64.urlsafe_b64encode(pickle.dumps((func, args, {}))).decode()
    return {"task": f"disttask-1;py={PYTHON};code=ref;name={name.replace(';', ',')};{body}"}


def submit(door, name, func, *args):
    """Over HTTP, under a name. Returns the task's id."""
    return door.call("POST", "/submit_task", task_text(name, func, *args)).json["task_id"]


class Tab:
    """A page, and what has happened in it that must not."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.alarms = []
        self.page.set_default_timeout(15_000)
        self.page.on("dialog", self._dialog)
        self.page.on("pageerror", lambda error: self.alarms.append(f"error: {error}"))
        self.page.on("request", self._request)
        self.page.on("framenavigated", self._request)
        self.page.on("popup", lambda popup: self.alarms.append(f"popup {popup.url}"))
        self.accept_dialogs = False
        self.host = None

    def _dialog(self, dialog):
        if self.accept_dialogs:
            dialog.accept()
        else:
            self.alarms.append(f"dialog {dialog.message}")
            dialog.dismiss()

    def _request(self, request):
        if self.host is not None and urlsplit(request.url).netloc != self.host:
            self.alarms.append(f"went to {request.url}")

    def log_in(self, door):
        self.host = f"127.0.0.1:{door.port}"
        self.page.goto(door.login_url())
        expect(self.page.locator("#link")).to_have_text("live")

    def past(self, name):
        """Rows of tasks that have ended, by the name."""
        return self.page.locator("#past-table > tbody", has=self.page.locator(f'[data-cell="name"][title="{name}"]'))

    def cell(self, row, name):
        return row.locator(f'[data-cell="{name}"]')


@pytest.fixture
def tab(browser, door):
    tab = Tab(browser)
    yield tab
    tab.context.close()
    assert tab.alarms == []


def test_the_printed_link_logs_in_once_and_leaves_no_token(tab, door, browser):
    link = door.login_url()
    tab.host = f"127.0.0.1:{door.port}"
    tab.page.goto(link)
    expect(tab.page.locator("#link")).to_have_text("live")
    assert tab.page.url == f"http://{tab.host}/"
    (cookie,) = tab.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert tab.page.evaluate("document.cookie") == ""
    assert door.token not in tab.page.content()
    tab.page.reload()
    expect(tab.page.locator("#link")).to_have_text("live")

    other = Tab(browser)
    answer = other.page.goto(link)
    assert answer.status == 403, "the link works once"
    assert "disttask token --link" in other.page.inner_text("body")
    assert other.page.goto(f"http://{tab.host}/").status == 401
    other.context.close()


def test_tasks_are_watched_while_they_run_and_cancelled_while_they_wait(tab, door, tmp_path):
    gate = tmp_path / "gate"
    tab.log_in(door)
    for number in range(2):
        submit(door, f"held {number}", tasks.wait_for_file, str(gate))
    waiting = [submit(door, f"waiting {number}", tasks.add, number) for number in range(3)]
    page = tab.page
    expect(page.locator("#running")).to_have_text("2")
    expect(page.locator("#queued")).to_have_text("3")
    expect(page.locator('#workers [data-state="busy"]')).to_have_count(2)
    expect(page.locator("#present > tr")).to_have_count(5)
    first = page.locator("#workers > tr").first
    expect(tab.cell(first, "task")).to_contain_text("held")
    row = page.locator("#present > tr", has_text="waiting 1")
    tab.cell(row, "action").click()
    expect(page.locator("#notice-text")).to_contain_text("cancelled")
    assert door.result(waiting[1])["status"] == "cancelled"
    expect(tab.past("waiting 1").locator('[data-state="cancelled"]')).to_have_count(1)

    gate.touch()
    expect(page.locator("#present-empty")).to_be_visible()
    expect(page.locator("#succeeded")).to_have_text("4")
    expect(tab.past("waiting 2").locator('[data-state="succeeded"]')).to_have_count(1)
    expect(tab.cell(tab.past("waiting 2"), "summary")).to_have_text("3")
    assert [door.result(task_id)["result"] for task_id in (waiting[0], waiting[2])] == [1, 3]


def test_a_task_that_runs_is_killed_from_the_page_once_a_person_is_sure(tab, door, tmp_path):
    tab.log_in(door)
    gate = tmp_path / "gate"
    spared = submit(door, "spared", tasks.wait_for_file, str(gate))
    killed = submit(door, "killed", tasks.sleep, 60)
    button = tab.cell(tab.page.locator("#present > tr", has_text="spared"), "action")
    expect(button).to_have_text("Kill")
    button.click()
    assert [alarm for alarm in tab.alarms if "Kill task" in alarm] == tab.alarms != [], "it has asked, and was told no"
    tab.alarms.clear()
    tab.accept_dialogs = True
    tab.cell(tab.page.locator("#present > tr", has_text="killed"), "action").click()
    expect(tab.page.locator("#notice-text")).to_contain_text("killed")
    assert door.result(killed)["status"] == "cancelled"
    expect(tab.past("killed").locator('[data-state="cancelled"]')).to_have_count(1)
    gate.touch()
    assert door.result(spared)["status"] == "succeeded"


def test_the_traceback_of_a_failed_task_is_one_click_away(tab, door):
    tab.log_in(door)
    submit(door, "fails", hostile.throw_text, "the reason")
    row = tab.past("fails")
    expect(row.locator('[data-state="failed"]')).to_have_count(1)
    expect(tab.cell(row, "summary")).to_have_text("ValueError: the reason")
    tab.cell(row, "more").click()
    details = row.locator("pre")
    expect(details).to_be_visible()
    expect(details).to_contain_text("Traceback (most recent call last)")
    expect(details).to_contain_text("in throw_text")
    tab.cell(row, "more").click()
    expect(details).to_be_hidden()


def pids_shown(tab):
    return [int(text) for text in tab.page.locator('#workers [data-cell="pid"]').all_inner_texts() if text.isdigit()]


def test_a_worker_killed_from_outside_is_seen_to_be_replaced(tab, door, tmp_path):
    tab.log_in(door)
    wait_until(lambda: len(pids_shown(tab)) == 2, 10, "two workers shown")
    before = pids_shown(tab)
    assert sorted(before) == sorted(worker["pid"] for worker in door.executor.status()["workers"])
    running = submit(door, "its last", tasks.logged_sleep, str(tmp_path / "log"), "begun", 60)
    (victim,) = wait_busy(door.executor)
    wait_until(lambda: tasks.lines(tmp_path / "log"), 10, "the task begun")  # before that, it would just run again
    (other,) = set(before) - {victim}
    os.kill(victim, signal.SIGKILL)
    expect(tab.page.locator("#worker_deaths")).to_have_text("1")
    wait_until(lambda: len(set(pids_shown(tab)) - {victim}) == 2, 10, "a replacement in the table")
    (fresh,) = set(pids_shown(tab)) - {other}
    row = tab.page.locator("#workers > tr", has_text=str(fresh))
    expect(tab.cell(row, "restarts")).to_have_text("1")
    expect(tab.cell(row, "state")).to_have_text("idle")
    expect(tab.cell(tab.past("its last"), "summary")).to_contain_text("SIGKILL")
    assert "SIGKILL" in door.result(running)["error"]["message"]


def test_a_worker_is_restarted_from_the_page(tab, door):
    tab.log_in(door)
    wait_until(lambda: len(pids_shown(tab)) == 2, 10, "two workers shown")
    before = pids_shown(tab)
    tab.accept_dialogs = True
    tab.cell(tab.page.locator("#workers > tr").first, "action").click()
    expect(tab.page.locator("#notice-text")).to_contain_text("restarted")
    wait_until(lambda: len(set(pids_shown(tab)) | set(before)) == 3, 10, "another pid")
    expect(tab.page.locator("#worker_deaths")).to_have_text("0")


def test_the_page_reconnects_to_a_server_that_comes_back(browser, tmp_path):
    tab = Tab(browser)
    with running_executor(1) as executor:
        with native_door(executor, tmp_path) as door:
            tab.log_in(door)
            port = door.port
        expect(tab.page.locator("#link")).to_have_text("reconnecting")
        with executor.serve(port=port, token_file=tmp_path / "native.token"):
            # Sessions end with their server: the page says what to do.
            expect(tab.page.locator("#link")).to_have_text("signed out")
            expect(tab.page.locator("#signed-out")).to_contain_text(f"token --link --url http://127.0.0.1:{port} ")
    tab.context.close()


def test_a_server_that_was_started_anew_leaves_nothing_of_the_old_one(browser, tmp_path):
    tab = Tab(browser)
    with running_executor(1) as executor, native_door(executor, tmp_path, no_auth=True) as door:
        tab.page.goto(f"http://127.0.0.1:{door.port}/")
        submit(door, "of the first run", tasks.add, 1)
        expect(tab.past("of the first run")).to_have_count(1)
        port = door.port
    with running_executor(1) as executor, executor.serve(port=port, no_auth=True) as server:
        client = disttask.Client(server.url, token="")
        task_id = client.submit(tasks.add, 1)
        expect(tab.past("add")).to_have_count(1, timeout=20_000)
        expect(tab.past("of the first run")).to_have_count(0)
        assert task_id.endswith("-1"), "numbers begin anew: the rows must not be mixed"
    tab.context.close()


def test_how_a_task_failed_is_told_apart(tab, door):
    tab.log_in(door)
    for name, func, args in (("raises", hostile.throw_text, ("x",)), ("dies", tasks.kill_myself, ())):
        submit(door, name, func, *args)
    late = {**task_text("is late", tasks.sleep, 60), "timeout": 0.2}
    door.call("POST", "/submit_task", late)
    for name, state in (("raises", "raised"), ("dies", "crashed"), ("is late", "timed out")):
        expect(tab.cell(tab.past(name), "state")).to_have_text(state)


def test_tags_are_shown_and_searched(tab, door):
    tab.log_in(door)
    batch = [{**task_text(name, tasks.add, 1), "tags": tags} for name, tags in (("one", ["nightly"]), ("two", []))]
    door.call("POST", "/api/v1/tasks", {"tasks": batch})
    expect(tab.past("one · nightly")).to_be_visible()
    expect(tab.past("two")).to_be_visible()
    tab.page.locator("#name").fill("NIGHT")
    expect(tab.past("two")).to_be_hidden()
    expect(tab.past("one · nightly")).to_be_visible()


# --- text that would like to be code ---------------------------------------------------------------


def show_payloads(tab, door, payloads):
    """Each as a task's name, tag and result, and as an exception; all rows open; wait until they are in the page."""
    batch = [
        {**task_text("f", hostile.echo, payload), "name": payload[:255], "tags": [payload[:255], "tag"]}
        for payload in payloads
    ]
    batch += [task_text(payload, hostile.throw_text, payload) for payload in payloads]
    ids = door.call("POST", "/api/v1/tasks", {"tasks": batch}).json["task_ids"]
    found = [door.result(task_id) for task_id in ids]
    assert [one["result"] for one in found[: len(payloads)]] == payloads
    assert [one["error"]["message"] for one in found[len(payloads) :]] == payloads
    for task_id in ids:  # they end in no order, and each picture has what has ended by then
        short = f"Details of task #{task_id.rpartition('-')[2]}"
        expect(tab.page.locator(f'button[aria-label="{short}"]')).to_have_count(1)
    tab.page.evaluate("document.querySelectorAll('button.more:not([hidden])').forEach(button => button.click())")
    return ids


def test_no_payload_runs_in_the_page(tab, door):
    tab.log_in(door)
    page = tab.page
    elements = page.evaluate("document.querySelectorAll('script,link,base,iframe,object,embed,style,meta').length")
    for start in range(0, len(PAYLOADS), BATCH):
        payloads = PAYLOADS[start : start + BATCH]
        ids = show_payloads(tab, door, payloads)
        shown = page.locator('#past-table [data-cell="name"]').evaluate_all("cells => cells.map(cell => cell.title)")
        assert {payload.replace(";", ",") for payload in payloads} <= set(shown), "as text, whole"
        assert {f"{payload[:255]} · {payload[:255]} · tag" for payload in payloads} <= set(shown), "and so are tags"
        page.locator("#name").fill(payloads[-1][:20])  # the filter handles them, too
        page.locator("#name").fill("")
    assert page.locator("pre").count() >= len(PAYLOADS) / 2, "tracebacks were open"
    script = "document.querySelectorAll('script,link,base,iframe,object,embed,style,meta').length"
    assert page.evaluate(script) == elements, "no element came in with the text"
    assert page.evaluate("document.querySelectorAll('main img, main svg script, main video').length") == 0
    assert page.url == f"http://{tab.host}/"
    # What a person may open directly is shown as text as well.
    for path in (f"/api/v1/tasks/{ids[0]}", "/api/v1/tasks?limit=1000", f"/get_results?ids={ids[0]},{ids[-1]}"):
        answer = page.goto(f"http://{tab.host}{path}")
        assert answer.headers["content-type"] == "application/json"
        assert page.locator("script, img, iframe").count() == 0
    # `tab` fails the test where a dialog opened or a request went elsewhere.


def test_the_watch_for_payloads_can_bark(browser):
    """The same payloads in a careless page do run, so silence above means something."""
    barked = 0
    tab = Tab(browser)
    tab.context.route("**/*", lambda route: route.abort())
    tab.host = ""
    for payload in PAYLOADS:
        before = len(tab.alarms)
        tab.page.set_content(f"<!doctype html><title>x</title><div>{payload}</div>")
        barked += len(tab.alarms) > before
    tab.context.close()
    assert barked >= len(PAYLOADS) / 4, f"{barked} of {len(PAYLOADS)}"
    assert any(alarm.startswith("dialog") for alarm in tab.alarms)
    assert any("evil.example" in alarm for alarm in tab.alarms)


# --- how it looks ----------------------------------------------------------------------------------


def fill(door, gate):
    """Something of everything."""
    reason = "line 17: expected a number, found 'n/a' in column 'price' of 2026-11.csv"
    for number in range(12):
        submit(door, f"resize image {number}", tasks.add, number)
    failed = submit(door, "parse report with a rather long name, as generated ones are", hostile.throw_text, reason)
    crashed = submit(door, "crashes", tasks.kill_myself)
    assert [door.result(task_id)["status"] for task_id in (failed, crashed)] == ["failed", "failed"]
    for number in range(2):
        submit(door, f"train model {number}", tasks.wait_for_file, str(gate))
    for number in range(4):
        submit(door, f"report {number}", tasks.add, number)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_both_themes_fit_both_widths(browser, door, tmp_path, theme, width):
    gate = tmp_path / "gate"
    fill(door, gate)
    tab = Tab(browser, color_scheme=theme, viewport={"width": width, "height": 900})
    tab.log_in(door)
    expect(tab.page.locator("#queued")).to_have_text("4")
    expect(tab.page.locator("#rate")).not_to_have_text("\u2013")
    tab.cell(tab.past("crashes"), "more").click()
    folder = Path(os.environ.get("DISTTASK_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    tab.page.screenshot(path=folder / f"dashboard-{theme}-{width}.png", full_page=True)
    wide = tab.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width, "nothing has to be scrolled sideways"
    cut = "[...document.querySelectorAll('.sub')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent)"
    assert tab.page.evaluate(cut) == [], "no caption is cut off"
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = [int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    assert (min(shades) > 200) if theme == "light" else (max(shades) < 80), colour
    gate.touch()
    tab.context.close()
    assert tab.alarms == []
