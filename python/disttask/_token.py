"""The token file: one per user, readable by nobody else. Whoever has the token can run code as this user."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from ._exceptions import DisttaskError

TOKEN_BYTES = 32
"""256 bits."""

MIN_TOKEN_CHARS = 16
"""A shorter token in a file was not made by us, and can be guessed."""

MAX_TOKEN_BYTES = 4096
"""What is read of a token file."""

TOKEN_VARIABLE = "DISTTASK_TOKEN"
"""Environment variable that holds a token for clients; workers do not inherit it."""


class TokenFileError(DisttaskError, OSError):
    """The token file cannot be used; the text says what to do."""


def default_path() -> Path:
    """``$XDG_STATE_HOME/disttask/token``, by default below ``~/.local/state``.

    Raises:
        TokenFileError: this user has no home.
    """
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    try:
        return Path(base).expanduser() / "disttask" / "token"
    except RuntimeError as exc:  # a user without an entry and without $HOME, as in many containers
        raise TokenFileError(
            f"there is no place for the token file: {exc}; set $XDG_STATE_HOME or $HOME, or name a token file"
        ) from exc


def checked_token(token: str, where: str) -> str:
    """The token without the space around it (``$(cat token)`` in a script, a line's end in an environment file).

    Raises:
        ValueError: it cannot be sent. The text says where it is from, and nothing of it.
        TypeError: it is no text.
    """
    if not isinstance(token, str):
        raise TypeError(f"{where} must be a str, not {type(token).__name__}")
    token = token.strip()
    if not token or not is_token(token):
        raise ValueError(f"{where} is no token: it is empty, or holds spaces, line breaks or what else no token has")
    return token


def is_token(token: str) -> bool:
    """Whether a header can hold it."""
    return token.isascii() and token.isprintable() and " " not in token


def read_token(path: Path) -> str:
    """The token in the file.

    Raises:
        TokenFileError: it is not there, is not ours alone, or holds no token.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would block
    except OSError as exc:
        raise TokenFileError(f"no token in {path} ({exc.strerror}): 'disttask serve' makes one") from exc
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise TokenFileError(f"the token file {path} is not a file of yours: remove it, or name another")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise TokenFileError(
                f"others can read the token file {path}: remove it (a new one is made), and restart the server"
            )
        token = os.read(descriptor, MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    if len(token) < MIN_TOKEN_CHARS or not is_token(token):
        raise TokenFileError(f"there is no token in {path}: remove the file, and a new one is made")
    return token


def ensure_token(path: Path) -> str:
    """The token in the file, which is made if it is not there. It appears whole: nobody reads half a token."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.path.lexists(path):
            return read_token(path)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{token}\n".encode())
            os.link(draft, path)
        finally:
            os.close(descriptor)
            os.unlink(draft)
    except TokenFileError:
        raise
    except FileExistsError as exc:
        if path.parent.is_dir():
            return read_token(path)  # somebody was quicker
        raise TokenFileError(f"the token file {path} cannot be made: {path.parent} is no folder") from exc
    except OSError as exc:
        raise TokenFileError(f"the token file {path} cannot be made: {exc.strerror}") from exc
    return token
