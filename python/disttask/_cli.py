"""The command line: ``disttask serve | submit | results | status | token``.

Exit status: 0 all is well; 1 a task failed or has not finished; 2 wrong usage; 3 no server, or it refuses.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import _serve
from ._client import Client, ServerRefused, ServerUnreachable
from ._exceptions import DisttaskError
from ._executor import Executor
from ._native import __version__
from ._pickling import short_repr
from ._token import TOKEN_VARIABLE, TokenFileError, default_path, read_token

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

EXIT_FAILED, EXIT_USAGE, EXIT_SERVER = 1, 2, 3

DESCRIPTORS = 16_384
"""Half of them are for connections (`MAX_CONNECTIONS` in src/api/server.rs)."""

STOP_SECONDS = 10.0
"""How long running tasks have when the server is told to stop; a second Ctrl-C kills them at once."""

_url_option = click.option(
    "--url", default="http://127.0.0.1:5000", envvar="DISTTASK_URL", show_default=True, help="The server."
)
_token_file_option = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help=f"Where the token is.  [default: {'~/.local/state/disttask/token'}; {TOKEN_VARIABLE} goes first]",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="disttask")
def main() -> None:
    """Python tasks on supervised worker processes."""


@main.command()
@click.option("--host", default=_serve.HOST, show_default=True, help="Address to listen on.")
@click.option("--port", default=_serve.PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--workers", type=click.IntRange(1, 1024), help="Worker processes.  [default: one per usable processor]")
@_token_file_option
@click.option("--no-auth", is_flag=True, help="Ask for no token. On loopback only; every local user can then run code.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="Another name that clients may call this server by.")
@click.option("--tls-cert", type=click.Path(exists=True, dir_okay=False), help="Certificate chain, PEM.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="Its private key, PEM.")
@click.option("--allow-plaintext", is_flag=True, help="Go without TLS beyond loopback: something else encrypts.")
@click.option("--max-body", default=_serve.MAX_BODY_BYTES, show_default=True, type=click.IntRange(1024), help="Bytes.")
def serve(
    host: str,
    port: int,
    workers: int | None,
    token_file: Path | None,
    no_auth: bool,
    allow_host: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    allow_plaintext: bool,
    max_body: int,
) -> None:
    """Run workers and an HTTP interface to them, until told to stop."""
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    _raise_descriptor_limit()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    executor = Executor(workers)
    try:
        server = executor.serve(
            host=host,
            port=port,
            token_file=token_file,
            no_auth=no_auth,
            allow_hosts=allow_host,
            tls=(tls_cert, tls_key) if tls_cert and tls_key else None,
            allow_plaintext=allow_plaintext,
            max_body=max_body,
        )
    except (ValueError, OSError) as exc:
        executor._pool.shutdown("now")
        raise (_UsageFailure if isinstance(exc, ValueError) else _ServerFailure)(str(exc)) from None
    click.echo(f"disttask serves {executor._max_workers} workers at {server.url}")
    click.echo(f"dashboard: {server.login_url()}")
    sys.stdout.flush()
    stop.wait()
    click.echo("stopping")
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server.stop()
        executor._pool.shutdown("cancel")
        gone = executor._pool.wait_gone(STOP_SECONDS)
    except KeyboardInterrupt:
        gone = False
    if not gone:
        executor._pool.shutdown("now")


@main.command()
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARG...]")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@_url_option
@_token_file_option
@_json_option
def submit(
    function: str, arguments: tuple[str, ...], wait: bool, url: str, token_file: Path | None, as_json: bool
) -> None:
    """Submit a call. Each ARG is JSON; what is not JSON is taken as a string."""
    call = _imported(function)
    client = _client(url, token_file)
    task_id = _asked(lambda: client.submit(call, *(_json_or_text(argument) for argument in arguments)))
    if wait:
        _print_records(_asked(lambda: client.get_results([task_id])), as_json)
    else:
        click.echo(json.dumps({"task_id": task_id}) if as_json else task_id)


@main.command()
@click.argument("task_ids", nargs=-1)
@click.option("--wait", type=float, default=0.0, help="Seconds to wait for them.")
@_url_option
@_token_file_option
@_json_option
def results(task_ids: tuple[str, ...], wait: float, url: str, token_file: Path | None, as_json: bool) -> None:
    """Print results: of these tasks, or all that are kept."""
    client = _client(url, token_file)
    _print_records(_asked(lambda: client.get_results(task_ids or None, timeout=wait)), as_json)


@main.command()
@_url_option
@_token_file_option
@_json_option
def status(url: str, token_file: Path | None, as_json: bool) -> None:
    """Print what the workers do."""
    found = _asked(_client(url, token_file).status)
    if as_json:
        click.echo(json.dumps(found))
        return
    totals = ", ".join(f"{name} {count}" for name, count in found["totals"].items())
    click.echo(f"queued {found['queued']}, running {found['running']}, {totals}")
    for worker in found["workers"]:
        task = f"  {worker['task']['name']}" if worker["task"] else ""
        memory = worker["memory_bytes"] / 2**20
        click.echo(
            f"worker {worker['worker']}  pid {worker['pid']}  {worker['state']:<10}  done {worker['tasks_done']}  "
            f"restarts {worker['restarts']}  {memory:.0f} MiB{task}"
        )


@main.command()
@click.option("--link", is_flag=True, help="Print a link that logs a browser in, once (asks the server).")
@_url_option
@_token_file_option
def token(link: bool, url: str, token_file: Path | None) -> None:
    """Print the token."""
    if link:
        click.echo(url.rstrip("/") + _asked(_client(url, token_file).login_path))
    else:
        click.echo(_asked(lambda: read_token(token_file or default_path())))


def _raise_descriptor_limit() -> None:
    """The usual soft limit of 1024 is for programs that use select(); connections count against it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _UsageFailure(click.ClickException):
    exit_code = EXIT_USAGE


class _ServerFailure(click.ClickException):
    exit_code = EXIT_SERVER


def _client(url: str, token_file: Path | None) -> Client:
    return _asked(lambda: Client(url, token=None if token_file is None else read_token(token_file)))


def _asked(call: Callable[[], _T]) -> _T:
    """Make errors one line and an exit status."""
    try:
        return call()
    except (ServerUnreachable, ServerRefused, TokenFileError) as exc:
        raise _ServerFailure(str(exc)) from None
    except (DisttaskError, ValueError) as exc:
        raise _UsageFailure(str(exc)) from None


def _imported(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise click.UsageError(f"{name!r} is not MODULE:FUNCTION, such as math:sqrt")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as exc:
        raise _UsageFailure(f"{name}: {exc}") from None
    if not callable(found):
        raise _UsageFailure(f"{name} is not callable")
    function: Callable[..., Any] = found
    return function


def _json_or_text(argument: str) -> Any:
    try:
        return json.loads(argument)
    except ValueError:
        return argument


def _json_line(record: dict[str, Any]) -> str:
    """One line of JSON; a value that JSON cannot hold is shown by its repr."""
    try:
        return json.dumps(record, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(record | {"result": short_repr(record["result"])})


def _print_records(records: list[dict[str, Any]], as_json: bool) -> None:
    for record in records:
        if "error" in record:
            outcome = f"{type(record['error']).__name__}: {record['error']}"
        else:
            outcome = short_repr(record["result"]) if "result" in record else ""
        if as_json:
            click.echo(_json_line(record))
        else:
            click.echo(f"{record['task_id']}  {record['status']:<10}  {outcome}".rstrip())
    if any(record["status"] != "succeeded" for record in records):
        sys.exit(EXIT_FAILED)
