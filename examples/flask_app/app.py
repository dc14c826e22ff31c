"""A small Flask application that leaves its work to disttask: it counts the words of a text, and shows the result.

Run it with ``python examples/flask_app/app.py [PORT]``; see the README beside it.
"""

import os
import secrets
import socket
import sys
from collections import Counter

import waitress
from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from werkzeug.wrappers import Response

import disttask
from disttask.integrations.flask import Disttask

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Words</title>
{% if not logged_in %}
<form method="post" action="{{ url_for('log_in') }}">
  <label>Password <input type="password" name="password" required autofocus></label>
  <button>Log in</button>
</form>
{% else %}
<form method="post" action="{{ url_for('count') }}">
  <p><label>Text<br><textarea name="text" rows="8" cols="60" required></textarea></label></p>
  <button>Count its words</button>
</form>
{% if record %}
<p id="status">{{ record.status }}</p>
{% if record.status == "succeeded" %}
<table>{% for word, times in record.result %}<tr><td>{{ word }}<td>{{ times }}{% endfor %}</table>
{% elif record.status == "failed" %}
<pre>{{ record.error }}</pre>
{% else %}
<p><a href="">Look again</a></p>
{% endif %}
{% endif %}
<p><a href="/tasks/">The workers</a></p>
{% endif %}
"""


def count_words(text: str) -> list[tuple[str, int]]:
    """The task: runs on a worker process."""
    return Counter(text.lower().split()).most_common(20)


def logged_in() -> bool:
    """Who is logged in to this application may use disttask's pages and interface as well."""
    return session.get("logged_in") is True


def create_app(port: int, password: str, token_file: str | None = None) -> Flask:
    """The application, for a server on this port of 127.0.0.1."""
    app = Flask(__name__)
    app.secret_key = secrets.token_bytes(32)
    app.config.update(
        SESSION_COOKIE_SAMESITE="Strict",  # the forms below rely on it
        DISTTASK_URL_PREFIX="/tasks",
        DISTTASK_PORT=port,
        DISTTASK_TOKEN_FILE=token_file,
    )
    Disttask(app, disttask.default_executor(), authorize=logged_in)

    @app.get("/")
    def index() -> str:
        return render_template_string(PAGE, logged_in=logged_in())

    @app.post("/login")
    def log_in() -> Response:
        if not secrets.compare_digest(request.form["password"].encode(), password.encode()):
            abort(403)
        session["logged_in"] = True
        return redirect(url_for("index"))

    @app.post("/count")
    def count() -> Response:
        if not logged_in():
            abort(403)
        future = disttask.submit(count_words, request.form["text"])
        return redirect(url_for("result", task_id=future.task_id))

    @app.get("/result/<task_id>")
    def result(task_id: str) -> str:
        if not logged_in():
            abort(403)
        try:
            (record,) = disttask.get_results([task_id], timeout=2.0)
        except (disttask.UnknownTask, disttask.ResultEvicted):
            abort(404)
        return render_template_string(PAGE, logged_in=True, record=record)

    return app


def main() -> None:
    """Serve on 127.0.0.1."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    password = os.environ.get("APP_PASSWORD") or secrets.token_urlsafe(9)
    with socket.create_server(("127.0.0.1", port)) as listener:
        port = listener.getsockname()[1]
        app = create_app(port, password, os.environ.get("APP_TOKEN_FILE"))
        print(f"http://127.0.0.1:{port}/ with the password {password}", flush=True)
        waitress.serve(app, sockets=[listener], threads=16)


if __name__ == "__main__":
    main()
