"""The example application: its words are counted on a worker, and its log-in opens disttask's pages."""

import http.cookiejar
import re
import signal
import urllib.error
import urllib.parse
import urllib.request

import pytest

from helpers import TESTS

EXAMPLE = TESTS.parent / "examples" / "flask_app" / "app.py"


@pytest.fixture
def example(start_script, tmp_path):
    """The example application, and a browser's cookies."""
    environment = {"APP_PASSWORD": "open sesame", "APP_TOKEN_FILE": str(tmp_path / "token")}
    script = start_script(EXAMPLE.read_text(), args=["0"], env=environment)
    script.wait_out("password")
    url = re.match(r"http://127\.0\.0\.1:\d+", script.out)[0]
    yield url, Browser()
    script.send(signal.SIGINT)
    assert script.wait(15).status == 0


class Browser:
    def __init__(self):
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def __call__(self, url, form=None, **headers):
        data = None if form is None else urllib.parse.urlencode(form).encode()
        sent = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with self._opener.open(sent, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, answer.read().decode()


def test_the_example_counts_words(example):
    url, browse = example
    assert browse(f"{url}/count", {"text": "x"})[0] == 403
    assert browse(f"{url}/login", {"password": "wrong"})[0] == 403
    status, page = browse(f"{url}/login", {"password": "open sesame"})
    assert (status, "textarea" in page) == (200, True)
    status, page = browse(f"{url}/count", {"text": "to be or not to be <b>"})
    assert status == 200
    assert re.search(r"<tr><td>to<td>2<tr><td>be<td>2<tr><td>or<td>1", page), page
    assert "<td>&lt;b&gt;<td>1" in page


def test_the_example_shows_its_workers_to_who_is_logged_in(example):
    url, browse = example
    assert browse(f"{url}/tasks/healthz") == (200, "ok\n")
    assert browse(f"{url}/tasks/status")[0] == 401
    browse(f"{url}/login", {"password": "open sesame"})
    assert browse(f"{url}/tasks/status")[0] == 200
    assert "<title>disttask</title>" in browse(f"{url}/tasks/")[1]
    assert browse(f"{url}/tasks/status", Sec_Fetch_Site="cross-site")[0] == 403
    assert browse(f"{url}/tasks/status", Origin="http://evil.com")[0] == 403
    assert browse(f"{url}/tasks/api/v1/workers/1/restart", {"x": "y"})[0] == 415, "a form of another site"


def test_the_readme_of_the_example_is_true():
    text = (EXAMPLE.parent / "README.md").read_text()
    assert "python examples/flask_app/app.py" in text
    assert EXAMPLE.relative_to(TESTS.parent).as_posix() in text
