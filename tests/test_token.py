"""The token file: made once, readable by nobody else, and refused where it is not."""

import os
import pwd
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from disttask._token import TokenFileError, default_path, ensure_token, read_token


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "token"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_for_its_owner_only(path):
    old = os.umask(0)
    try:
        token = ensure_token(path)
    finally:
        os.umask(old)
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert path.read_text() == f"{token}\n"
    assert len(token) == 43, "256 bits in base64"
    assert ensure_token(path) == read_token(path) == token


def test_each_is_another(tmp_path):
    assert len({ensure_token(tmp_path / str(number)) for number in range(20)}) == 20


def test_many_makers_agree(path):
    """Whoever comes second reads what the first has written, whole."""
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ensure_token, [path] * 64)) == {read_token(path)}
    assert os.listdir(path.parent) == ["token"], "no drafts are left"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_others_may_not_touch_it(path, bits):
    ensure_token(path)
    path.chmod(bits)
    for use in (read_token, ensure_token):
        with pytest.raises(TokenFileError, match=f"others can read.*{path}.*remove it"):
            use(path)


def test_a_link_is_not_followed(path, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    ensure_token(elsewhere)
    path.parent.mkdir()
    path.symlink_to(elsewhere)
    for use in (read_token, ensure_token):
        with pytest.raises(TokenFileError, match=str(path)):
            use(path)
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(TokenFileError):
        ensure_token(path)
    assert not (tmp_path / "nowhere").exists(), "nothing is made behind a link"


@pytest.mark.parametrize(
    "content", ["", "\n", "short", "two words in a file that is long enough", "ä" * 40, "a" * 20 + "\0"]
)
def test_something_else_is_no_token(path, content):
    path.parent.mkdir()
    path.write_text(content)
    path.chmod(0o600)
    for use in (read_token, ensure_token):
        with pytest.raises(TokenFileError, match=f"no token in {path}: remove the file"):
            use(path)
    assert path.read_text() == content, "it is not ours to overwrite"


def test_bytes_that_are_no_text_are_no_token(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff" * 40)
    path.chmod(0o600)
    with pytest.raises(TokenFileError, match="no token in"):
        read_token(path)


def test_a_pipe_is_not_waited_for(path):
    path.parent.mkdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(TokenFileError, match="not a file of yours"):
        read_token(path)


def test_a_folder_is_no_token(path):
    path.mkdir(parents=True)
    with pytest.raises(TokenFileError):
        read_token(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_somebody_elses_file_is_refused(path):
    ensure_token(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(TokenFileError, match="not a file of yours"):
        read_token(path)


def test_a_missing_one_says_who_makes_it(path):
    with pytest.raises(TokenFileError, match="disttask serve"):
        read_token(path)


def test_one_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TokenFileError, match=r"cannot be made: .* no folder"):
        ensure_token(tmp_path / "file" / "token")


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "disttask" / "token"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "state" / "disttask" / "token"
    assert isinstance(default_path(), Path)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    """As in a container that runs under some number."""

    def nobody(_):
        raise KeyError("no entry")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(TokenFileError, match=r"set .*HOME"):
        default_path()
