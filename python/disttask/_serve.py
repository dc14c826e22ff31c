"""`Executor.serve`: the HTTP interface of an executor."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import _native
from ._checks import several, whole
from ._token import default_path, ensure_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from ._executor import Executor

HOST = "127.0.0.1"
PORT = 5000
_MAX_PORT = 2**16 - 1
MAX_BODY_BYTES = 64 * 2**20
"""A larger request is refused; a task that needs more should name its data, not carry it."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
PYTHON = "{}.{}".format(*sys.version_info[:2])


class Server:
    """An HTTP interface at work. Made by `Executor.serve`; stops with `stop`, its ``with`` block, or the executor.

    Attributes:
        url: where it is, such as ``http://127.0.0.1:5000`` (`str`).
        token: what requests must carry, or ``None`` (`str`).
    """

    def __init__(
        self, native: _native.HttpServer, url: str, token: str | None, forget: Callable[[Server], None]
    ) -> None:
        self._native = native
        self._forget = forget
        self.url = url
        self.token = token

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._native.port

    def login_url(self) -> str:
        """A URL that logs one browser in, once; each call makes a new one. Without a token: just the address."""
        return self.url + (self._native.login_path() or "/")

    def stop(self) -> None:
        """Stop listening. Waiting requests are answered at once, others have two seconds. The executor goes on."""
        self._native.stop()
        self._forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<disttask.Server {self.url}>"


def serve(
    executor: Executor,
    *,
    host: str,
    port: int,
    token_file: str | os.PathLike[str] | None,
    no_auth: bool,
    allow_hosts: Iterable[str],
    tls: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None,
    allow_plaintext: bool,
    max_body: int,
) -> Server:
    """See `Executor.serve`."""
    whole("port", port, 0, _MAX_PORT)
    whole("max_body", max_body, 1, sys.maxsize)
    if tls is not None and (not isinstance(tls, tuple) or len(tls) != 2):
        raise TypeError("tls must be a pair of paths: (certificate, key)")
    other_names = several("allow_hosts", allow_hosts, "names")
    loopback = is_loopback(host)
    if not loopback and no_auth:
        raise ValueError(f"{host} can be reached from other machines, so a token is needed: leave no_auth out")
    if not loopback and tls is None and not allow_plaintext:
        raise ValueError(
            f"{host} can be reached from other machines, and without TLS the token can be read on the way: give a "
            "certificate and key (tls), or say allow_plaintext where something else encrypts"
        )
    token = None if no_auth else ensure_token(Path(token_file) if token_file is not None else default_path())
    pair = None if tls is None else (os.fspath(tls[0]), os.fspath(tls[1]))
    native = _native.HttpServer(
        executor._pool,
        host=host.strip("[]"),
        port=port,
        allow_hosts=[*_own_names(host), *other_names],
        token=token,
        tls=pair,
        max_body=max_body,
        python=PYTHON,
    )
    name = f"[{host.strip('[]')}]" if ":" in host else host
    if host in ("0.0.0.0", "::", ""):
        name = socket.gethostname()
    server = Server(native, f"{'https' if tls else 'http'}://{name}:{native.port}", token, executor._forget_server)
    executor._servers.append(server)  # nobody else has to hold it
    return server


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only. A name is looked up; all it stands for must be."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        pass
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)} if host else set()
    except OSError as exc:
        raise ValueError(f"cannot listen on {host!r}: {exc.strerror}") from exc
    return bool(found) and all(ipaddress.ip_address(str(address).split("%")[0]).is_loopback for address in found)


def _own_names(host: str) -> list[str]:
    """What browsers and clients may call this server in their ``Host`` header. ``0.0.0.0`` is never among them."""
    if host in ("127.0.0.1", "::1", "[::1]"):
        # Not the other's address: somebody else may listen there, and must get no proof for it (src/api/proof.rs).
        return [host if host == "127.0.0.1" else "[::1]", "localhost"]
    if is_loopback(host):
        return [*LOOPBACK_HOSTS, *([] if host in LOOPBACK_HOSTS or ":" in host else [host])]
    if host in ("0.0.0.0", "::", ""):
        return [*LOOPBACK_HOSTS[: 2 if host == "0.0.0.0" else None], socket.gethostname()]
    return [f"[{host.strip('[]')}]" if ":" in host else host]
