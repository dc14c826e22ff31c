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

TOKEN_VARIABLE = "DISTTASK_TOKEN"
"""Environment variable that holds a token for clients; workers do not inherit it."""


class TokenFileError(DisttaskError, OSError):
    """The token file cannot be used; the text says what to do."""


def default_path() -> Path:
    """``$XDG_STATE_HOME/disttask/token``, by default below ``~/.local/state``."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "disttask" / "token"


def read_token(path: Path) -> str:
    """The token in the file.

    Raises:
        TokenFileError: it is not there, is not ours alone, or holds no token.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise TokenFileError(f"no token in {path} ({exc.strerror}): 'disttask serve' makes one") from exc
    with os.fdopen(descriptor) as file:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise TokenFileError(f"the token file {path} is not a file of yours: remove it, or name another")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise TokenFileError(
                f"others can read the token file {path}: remove it (a new one is made), and restart the server"
            )
        token = file.read(4096).strip()
    if len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenFileError(f"there is no token in {path}: remove the file, and a new one is made")
    return token


def ensure_token(path: Path) -> str:
    """The token in the file, which is made if it is not there."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        return read_token(path)
    except OSError as exc:
        raise TokenFileError(f"the token file {path} cannot be made: {exc.strerror}") from exc
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    return token
