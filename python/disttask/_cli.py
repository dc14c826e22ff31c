"""The command line: ``disttask serve | submit | results | cancel | kill | status | token``.

Exit status: 0 all is well; 1 a task failed or has not finished; 2 wrong usage; 3 no server, or it refuses.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import _serve
from ._checks import to_submit
from ._cli_arguments import Submit, json_or_text, seconds
from ._client import DEFAULT_URL, Client, ServerRefused, ServerUnproven, ServerUnreachable
from ._exceptions import DisttaskError
from ._executor import KEEP_BYTES, KEEP_RESULTS, KEEP_SECONDS, Executor
from ._native import __version__
from ._token import TOKEN_VARIABLE, TokenFileError, default_path, read_token

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

EXIT_FAILED, EXIT_USAGE, EXIT_SERVER = 1, 2, 3

DESCRIPTORS = 16_384
"""Half of them are for connections (`MAX_CONNECTIONS` in src/api/server.rs)."""

ANOTHER_PORT = "--port names another; 0 is any free one"

STOP_SECONDS = 10.0
"""How long running tasks have when the server is told to stop; a second Ctrl-C kills them at once."""

IN_COMMANDS = {
    "allow_plaintext": "--allow-plaintext",
    "no_auth": "--no-auth",
    "(tls)": "(--tls-cert, --tls-key)",
    "token=''": "--no-auth",
}
"""What errors of Python functions call by the names of arguments, as the options that a user of commands has."""

_url_option = click.option(
    "--url", default=DEFAULT_URL, envvar="DISTTASK_URL", show_envvar=True, show_default=True, help="The server."
)
_token_file_option = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help=f"Where the token is.  [default: {'~/.local/state/disttask/token'}; {TOKEN_VARIABLE} goes first]",
)


def _client_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command its client, made of the options by which it finds its server."""

    @_url_option
    @_token_file_option
    @click.option("--no-auth", is_flag=True, help="The server asks for no token, and is trusted all the same.")
    @click.option("--allow-plaintext", is_flag=True, help="Without https to another machine: something else encrypts.")
    @functools.wraps(command)
    def with_client(url: str, token_file: Path | None, no_auth: bool, allow_plaintext: bool, **others: Any) -> None:
        def connect() -> Client:
            token = "" if no_auth else None if token_file is None else read_token(token_file)
            return Client(url, token=token, allow_plaintext=allow_plaintext)

        command(client=_asked(connect), **others)

    return with_client


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
@click.option(
    "--keep-results", default=KEEP_RESULTS, show_default=True, type=click.IntRange(0, sys.maxsize), help="Number."
)
@click.option(
    "--keep-bytes", default=KEEP_BYTES, show_default=True, type=click.IntRange(0, sys.maxsize), help="Their bytes."
)
@click.option(
    "--keep-seconds", default=KEEP_SECONDS, show_default=True, type=float, callback=seconds, help="Their age."
)
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
    keep_results: int,
    keep_bytes: int,
    keep_seconds: float,
    max_body: int,
) -> None:
    """Run workers and an HTTP interface to them, until told to stop.

    Modules of the current directory can be imported in tasks, as with `python -m`. A signal (Ctrl-C, SIGTERM) ends it:
    running tasks have 10 seconds, what waits is cancelled, and results can be fetched until the last task has ended.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    _raise_descriptor_limit()
    told = _signals()
    _find_modules_here()
    executor = Executor(workers, _keep=(keep_results, keep_bytes, keep_seconds))
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
        hint = f" ({ANOTHER_PORT})" if "in use" in str(exc) else ""
        kind = _UsageFailure if isinstance(exc, ValueError) else _ServerFailure
        raise kind(_in_options(str(exc)) + hint) from None
    click.echo(f"disttask serves {executor._max_workers} workers at {server.url}")
    click.echo(f"dashboard: {server.login_url()}")
    sys.stdout.flush()
    told.recv(1)
    _stop(executor, server)


def _signals() -> socket.socket:
    """Where Ctrl-C and SIGTERM arrive from now on, a byte for each.

    Not an `Event` or a queue that a Python handler sets: that runs only when the main thread gets to it, which may have
    just begun to sleep; and in the middle of `Event.wait` it would wait for a lock that its own thread holds.
    """
    told, tells = socket.socketpair()
    tells.setblocking(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(tells.detach(), warn_on_full_buffer=False)
    return told


def _stop(executor: Executor, server: _serve.Server) -> None:
    """Take nothing more, let what runs end, and answer until then; a second Ctrl-C ends it at once."""
    pool = executor._pool
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = pool.status()
        pool.shutdown("cancel")
        click.echo("stopping" + _what_is_waited_for(before))
        sys.stdout.flush()
        gone = pool.wait_gone(STOP_SECONDS)
    except KeyboardInterrupt:
        gone = False
    if not gone:
        pool.shutdown("now")
    server.stop()


def _what_is_waited_for(status: dict[str, Any]) -> str:
    running, queued = status["running"], status["queued"]
    if not running:
        return ""
    cancelled = f" ({queued} waiting {'one is' if queued == 1 else 'ones are'} cancelled)" if queued else ""
    tasks = "1 running task" if running == 1 else f"{running} running tasks"
    return f": {tasks} may go on for {STOP_SECONDS:.0f} s{cancelled}; another Ctrl-C kills at once"


@main.command(cls=Submit)
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, metavar="[ARG...]")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--timeout", type=float, callback=seconds, help="Seconds that one attempt may take.  [default: no limit]")
@click.option(
    "--max-memory", type=click.IntRange(1), help="Bytes that its worker may grow by while it runs.  [default: no limit]"
)
@click.option(
    "--retries", type=click.IntRange(0, 1000), default=0, help="How often it may run again if its worker dies."
)
@click.option("--priority", type=click.IntRange(-(2**31), 2**31 - 1), default=0, help="Higher goes first.")
@click.option("--name", help="What to call it in errors and lists.  [default: its function's name]")
@click.option("--tag", "tags", multiple=True, help="A word for finding it again; may be given several times.")
@_client_options
@_json_option
def submit(
    function: str,
    arguments: tuple[str, ...],
    wait: bool,
    timeout: float | None,
    max_memory: int | None,
    retries: int,
    priority: int,
    name: str | None,
    tags: tuple[str, ...],
    client: Client,
    as_json: bool,
) -> None:
    """Submit a call. Each ARG is JSON; what is not JSON is taken as a string.

    The module must be importable here, where the command runs, and where the server was started. Before text that
    begins with a dash put two; what follows is arguments, and no options: disttask submit --wait builtins:len -- -abc
    """
    call = _imported(function)
    given = [json_or_text(argument) for argument in arguments]
    options = functools.partial(client.options, retries=retries, timeout=timeout, max_memory=max_memory)
    submitter = _asked(lambda: options(priority=priority, name=name, tags=tags))
    task_id = _asked(lambda: submitter.submit(call, *given))
    if wait:
        click.echo(task_id, err=True)  # for whoever gives up waiting
        _print_views(_asked(lambda: client.describe_results([task_id])), as_json)
    else:
        click.echo(json.dumps({"task_id": task_id}) if as_json else task_id)


@main.command()
@click.argument("task_ids", nargs=-1)
@click.option(
    "--wait", type=float, default=0.0, callback=seconds, help="Seconds to wait for them; without ids, for everything."
)
@_client_options
@_json_option
def results(task_ids: tuple[str, ...], wait: float, client: Client, as_json: bool) -> None:
    """Print results: of these tasks, or all that are kept. The exit status is 1 if one of these has not succeeded."""
    views = _asked(lambda: client.describe_results(task_ids or None, timeout=wait))
    _print_views(views, as_json, judge=bool(task_ids))


@main.command()
@click.argument("task_ids", nargs=-1, required=True)
@_client_options
def cancel(task_ids: tuple[str, ...], client: Client) -> None:
    """Cancel tasks that wait. The exit status is 1 if one of them runs or has ended."""
    _end(task_ids, client.cancel, "runs (disttask kill ends it) or has ended")


@main.command()
@click.argument("task_ids", nargs=-1, required=True)
@_client_options
def kill(task_ids: tuple[str, ...], client: Client) -> None:
    """Cancel tasks, and stop those that run. The exit status is 1 if one of them has ended."""
    _end(task_ids, client.kill, "has ended")


def _end(task_ids: tuple[str, ...], call: Callable[[str], bool], too_late: str) -> None:
    cancelled = [_asked(functools.partial(call, task_id)) for task_id in task_ids]
    for task_id, done in zip(task_ids, cancelled, strict=True):
        click.echo(f"{task_id}  {'cancelled' if done else too_late}")
    if not all(cancelled):
        sys.exit(EXIT_FAILED)


@main.command()
@_client_options
@_json_option
def status(client: Client, as_json: bool) -> None:
    """Print what the workers do."""
    found = _asked(client.status)
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
@click.option("--allow-plaintext", is_flag=True, help="Without https to another machine: something else encrypts.")
@_url_option
@_token_file_option
def token(link: bool, allow_plaintext: bool, url: str, token_file: Path | None) -> None:
    """Print the token."""

    def find() -> str:
        if not link:
            return read_token(token_file or default_path())
        given = None if token_file is None else read_token(token_file)
        return url.rstrip("/") + Client(url, token=given, allow_plaintext=allow_plaintext).login_path()

    click.echo(_asked(find))


def _find_modules_here() -> None:
    """As `python -m` does it: the program is in a folder of its own, which is of no use to tasks."""
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())


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


def _in_options(message: str) -> str:
    """An error of a Python function, in the words of the command line."""
    for name, option in IN_COMMANDS.items():
        message = message.replace(name, option)
    return message


def _asked(call: Callable[[], _T]) -> _T:
    """Make errors one line and an exit status."""
    try:
        return call()
    except (ServerUnreachable, ServerRefused, ServerUnproven, TokenFileError) as exc:
        raise _ServerFailure(_in_options(str(exc))) from None
    except (DisttaskError, ValueError) as exc:
        raise _UsageFailure(_in_options(str(exc))) from None


_HERE = "where the command runs (it looks in this directory, and in PYTHONPATH)"
_THERE = "there, in the server's worker, which looks where 'disttask serve' was started, and in its PYTHONPATH"


def _imported(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise click.UsageError(f"{name!r} is not MODULE:FUNCTION, such as math:sqrt")
    _find_modules_here()
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except ImportError as exc:
        raise _UsageFailure(f"{name} cannot be imported here, {_HERE}: {exc}") from None
    except AttributeError as exc:
        raise _UsageFailure(f"{name}: {exc}") from None
    if not callable(found):
        raise _UsageFailure(f"{name} is not callable")
    try:
        to_submit("submit", found)
    except TypeError as exc:
        raise _UsageFailure(f"{name}: {exc}") from None
    function: Callable[..., Any] = found
    return function


def _print_views(views: list[dict[str, Any]], as_json: bool, *, judge: bool = True) -> None:
    """One line for each: JSON as over HTTP, or the value's `repr` or the error."""
    for view in views:
        error = view.get("error")
        outcome = f"{error['type']}: {error['message']}" if error else view.get("result_repr") or ""
        if error and error["type"] == "ModuleNotFoundError":
            outcome += f" ({_THERE})"
        if as_json:
            click.echo(json.dumps(view))
        else:
            click.echo(f"{view['task_id']}  {view['status']:<10}  {outcome}".rstrip())
    if judge and any(view["status"] != "succeeded" for view in views):
        sys.exit(EXIT_FAILED)
