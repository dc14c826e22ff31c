"""Whom a client may give its token to: a server that has shown that it knows it already."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from ._exceptions import DisttaskError
from ._token import TOKEN_VARIABLE, checked_token, default_path, read_token

if TYPE_CHECKING:
    from urllib.parse import SplitResult

NONCE_BYTES = 32
"""As many as the token has: guessing one is no easier than the other."""

PURPOSE = b"disttask-proof-1"
"""Begins what is proved, as in ``src/api/secret.rs``."""


class ServerUnproven(DisttaskError, ConnectionError):
    """Whoever answers there has not shown that it knows the token: it was not sent, and nothing is unpickled."""


def new_nonce() -> str:
    """Asks for a proof, once."""
    return secrets.token_hex(NONCE_BYTES)


def is_proof(given: object, token: str, host: str, nonce: str) -> bool:
    """Whether only somebody who knows the token can have answered so, when called `host` (see ``src/api/proof.rs``)."""
    key = hashlib.sha256(token.encode()).digest()
    message = b"\0".join([PURPOSE, host.lower().encode(), nonce.encode()])
    wanted = hmac.new(key, message, hashlib.sha256).hexdigest()
    return isinstance(given, str) and hmac.compare_digest(given.encode(), wanted.encode())


def is_local(hostname: str) -> bool:
    """Whether a host is this machine by its very name; what a name server says is not asked."""
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


def addresses(hostname: str) -> tuple[str, ...]:
    """Where to connect. ``localhost`` has two addresses, and a server on one; on the other may be somebody else."""
    return ("127.0.0.1", "::1") if hostname == "localhost" else (hostname,)


def host_value(url: SplitResult) -> str:
    """What a client of this address sends as ``Host``."""
    name = url.hostname or ""
    name = f"[{name}]" if ":" in name else name
    standard = 443 if url.scheme == "https" else 80
    return name if url.port in (None, standard) else f"{name}:{url.port}"


def token_for(url: SplitResult, given: str | None) -> str | None:
    """The token to use there: the one given, the environment's, or the user's own. ``None``: there is none.

    An empty one is given on purpose: it says that none is needed.

    Raises:
        ValueError: the one that there is cannot be sent, or not to that address.
        TokenFileError: the user's file cannot be used.
    """
    if given == "":
        return given
    if given is not None:
        return checked_token(given, "the token given")
    named = os.environ.get(TOKEN_VARIABLE)
    if named:
        return checked_token(named, f"${TOKEN_VARIABLE}")
    path = default_path()
    if not Path(path).exists():
        return None
    if url.scheme != "https" and not is_local(url.hostname or ""):
        raise ValueError(
            f"the token in {path} is for servers of this machine (or behind https), and {url.hostname} is another: "
            f"give that server's token, or set {TOKEN_VARIABLE} to it"
        )
    return read_token(path)
