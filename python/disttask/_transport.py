"""Requests to a server: each on a connection of its own, after the server has proved who it is."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import TYPE_CHECKING, Any

from ._answers import ServerRefused, ServerUnreachable, refuse
from ._proof import ServerUnproven, addresses, host_value, is_proof, new_nonce

if TYPE_CHECKING:
    import urllib.parse
    from collections.abc import Iterator

TRIES = 3
"""How often a request that changes nothing, or that never reached the server, is sent before the error is raised."""

RETRY_SECONDS = 0.2
"""The wait before the second try; the third comes after twice as long."""


class Transport:
    """What `Client` asks through."""

    _url: urllib.parse.SplitResult
    _timeout: float
    _token: str | None

    def _done(self, path: str, method: str, not_done: str, *, wait: float = 0.0) -> bool:
        try:
            self._request(method, path, wait=wait)
        except ServerRefused as exc:
            if exc.error != not_done:
                raise
            return False
        return True

    def _request(self, method: str, path: str, body: object = None, *, wait: float = 0.0) -> dict[str, Any]:
        """Send, and try again where that cannot do anything twice."""
        for attempt in range(1, TRIES + 1):
            sent = False
            connection = self._connect(wait)
            try:
                self._open(connection)
                self._have_proved(connection)
                sent = True
                return self._exchange(connection, method, path, body)
            except ServerUnproven:
                raise
            except (OSError, http.client.HTTPException) as exc:
                repeatable = method == "GET" or not sent
                if attempt == TRIES or not repeatable:
                    raise ServerUnreachable(self._unreachable(exc, method, sent)) from exc
            finally:
                connection.close()
            time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _connect(self, wait: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        assert self._url.hostname
        return kind(self._url.hostname, self._url.port, timeout=self._timeout + wait)

    def _open(self, connection: http.client.HTTPConnection) -> None:
        name = self._url.hostname or ""
        *first, last = addresses(name) if self._url.scheme == "http" else (name,)
        for address in first:
            connection.host = address
            with contextlib.suppress(ConnectionRefusedError):
                connection.connect()
                return
        connection.host = last
        connection.connect()

    def _have_proved(self, connection: http.client.HTTPConnection) -> None:
        """Have the server prove that it knows the token; over https, its certificate has done that."""
        if not self._token or self._url.scheme == "https":
            return
        nonce, where = new_nonce(), self._url.geturl()
        try:
            answer = self._exchange(connection, "GET", f"/proof?nonce={nonce}", None, show_token=False)
        except ServerRefused as exc:
            if exc.error != "no_token_here":
                raise
            raise ServerUnproven(
                f"the server at {where} asks for no token, so it cannot prove that it is the one that you trust: if it "
                "is, say token=''"
            ) from None
        if "proof" not in answer:
            raise http.client.HTTPException(f"not an answer of a disttask server: {str(answer)[:80]}")
        if not is_proof(answer["proof"], self._token, host_value(self._url), nonce):
            raise ServerUnproven(
                f"the server at {where} does not know this token, so it was not sent: it is another server's, or "
                "somebody else's; 'disttask token', where the server runs, prints the right one"
            )

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object,
        *,
        show_token: bool = True,
    ) -> dict[str, Any]:
        headers = {"Host": host_value(self._url)}
        if self._token and show_token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        broken = None
        try:
            connection.request(method, self._url.path.rstrip("/") + path, data, headers)
        except (BrokenPipeError, ConnectionResetError) as exc:
            broken = exc  # it may have refused the request before all of it was sent: look what it says
        try:
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise (broken or exc) from None
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise http.client.HTTPException(f"not an answer of a disttask server: {text[:80]!r}")
        if response.status >= 400:
            refuse(response.status, answer)
        return answer

    @contextlib.contextmanager
    def _understanding(self) -> Iterator[None]:
        """Around the reading of an answer."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as exc:
            where = self._url.geturl()
            raise ServerUnreachable(f"not an answer of a disttask server, from {where}: {exc!r} in it") from exc

    def _unreachable(self, exc: Exception, method: str, sent: bool) -> str:
        where = self._url.geturl()
        if sent and method != "GET":
            return f"the server at {where} broke off ({exc}); the request may or may not have arrived"
        return f"no server answers at {where} ({exc}): is 'disttask serve' running there?"
