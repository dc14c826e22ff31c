"""The Python blocks of README.md, docs/migrating.md and docs/troubleshooting.md run, each as a script of its own.

And the map of the source is of the files that there are.
"""

import doctest
import inspect
import re
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

import disttask
from disttask import _cli, _options

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MIGRATING = ROOT / "docs" / "migrating.md"
TROUBLESHOOTING = ROOT / "docs" / "troubleshooting.md"
PAGES = [README, MIGRATING, TROUBLESHOOTING]

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
"""A block of text right below one of code is what that prints."""


@dataclass
class Block:
    page: Path
    line: int
    code: str
    printed: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def blocks_of(page):
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found["code"], found["printed"] or "")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def test_there_are_blocks():
    assert {page.name: page.read_text().count("```python\n") for page in PAGES} == {
        page.name: sum(block.page == page for block in BLOCKS) for page in PAGES
    }
    assert min(sum(block.page == page for block in BLOCKS) for page in PAGES) >= 6
    assert any(block.printed for block in BLOCKS)


def run(block, folder):
    """What it prints."""
    script = folder / "block.py"
    script.write_text(block.code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_runs_and_prints_what_it_says(block, tmp_path):
    printed = run(block, tmp_path)
    assert doctest.OutputChecker().check_output(block.printed, printed, doctest.ELLIPSIS), f"{block} prints\n{printed}"


def test_nobody_is_sent_to_a_strangers_package():
    for file in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*"),
        *ROOT.glob("python/**/*.py"),
    ]:
        if file.suffix in (".md", ".py"):
            assert "disttask[" not in file.read_text(), file
            assert "pip install disttask" not in file.read_text(), file


def anchors(page):
    """What a heading is linked by."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for line in page.read_text().splitlines()
        if line.startswith("#")
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = page.read_text()
    targets = re.findall(r"\]\(([^)\s]*)", text)
    assert len(targets) >= 6
    for target in targets:
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target
    assert text.count("](") == len(re.findall(r"\]\([^)\s]+\)", text)), "a link without an end"


def test_the_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"^make (\w+)", README.read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(commands)
    for command in commands:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


# --- what is for a server ---------------------------------------------------------------------------------------------


def test_what_is_said_of_http_works(tmp_path):
    """The example for `requests` and the requests for `curl`, at another port and with that server's token."""
    text = README.read_text()
    (example,) = re.findall(r"^```text\n(import requests\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert example.count("http://127.0.0.1:5000") == example.count("TOKEN") == 1
    addresses = re.findall(r'^curl -H "Authorization: Bearer \$\(disttask token\)" (\S+)$', text, re.MULTILINE)
    assert len(addresses) == 2
    with disttask.Executor(1) as executor, executor.serve(port=0, token_file=tmp_path / "token") as server:
        code = example.replace("http://127.0.0.1:5000", server.url).replace("TOKEN", server.token)
        printed = run(Block(README, 0, code, ""), tmp_path)
        assert re.fullmatch(r"\{'task_id': '\w+-\d+'\}\n7\n", printed)
        (record,) = disttask.Client(server.url, token=server.token).get_results(timeout=20)
        assert record["result"] == 7
        for address in addresses:
            url = address.replace("http://127.0.0.1:5000", server.url)
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {server.token}"})
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200


def test_the_commands_of_disttask_exist():
    found = re.findall(r"^disttask (\w+)(.*?)(?:#.*)?$", README.read_text(), re.MULTILINE)
    assert len(found) >= 3
    for name, rest in found:
        options = {option for parameter in _cli.main.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= options


# --- what tables say that one writes ----------------------------------------------------------------------------------

OBJECTS = {"executor": disttask.Executor, "future": disttask.Future, "client": disttask.Client, "disttask": disttask}
CALLS = {
    "Executor": disttask.Executor,
    "map": disttask.Executor.map,
    "as_completed": disttask.as_completed,
    "options": _options.Options,
    "client.options": disttask.Client.options,
}
CODE = re.compile(r"`([^`]+)`")
NAME = re.compile(r"\b(executor|future|client|disttask)\.(\w+)")
CALL = re.compile(r"\b(Executor|client\.options|options|map|as_completed)\(([^()]*)\)")
KEYWORD = re.compile(r"(?:^|, )(\w+)=")


def advice():
    """The code in the right-hand columns of docs/migrating.md."""
    for line in MIGRATING.read_text().splitlines():
        if line.startswith("| ") and "what you write" not in line:
            _, (_, right) = line, [cell.strip() for cell in re.split(r" \| ", line.strip("| "))]
            yield from CODE.findall(right)


def test_what_one_is_told_to_write_exists():
    names = {found for code in advice() for found in NAME.findall(code)}
    assert len(names) > 25
    assert [f"{owner}.{name}" for owner, name in names if not hasattr(OBJECTS[owner], name)] == []


def test_the_arguments_that_one_is_told_to_write_exist():
    found = [
        (call, keyword) for code in advice() for call, args in CALL.findall(code) for keyword in KEYWORD.findall(args)
    ]
    assert len(found) > 20
    for call, keyword in found:
        assert keyword in inspect.signature(CALLS[call]).parameters, f"{call}({keyword}=...)"


# --- the map ----------------------------------------------------------------------------------------------------------

FILE = re.compile(r"`([\w./-]+\.(?:py|pyi|rs|toml|ipynb))`")


def test_the_map_is_of_the_files_that_there_are():
    places = [path for top in ("src", "python", "tests", "bench", "docs") for path in (ROOT / top).rglob("*.*")]
    named = FILE.findall((ROOT / "ARCHITECTURE.md").read_text())
    assert len(named) > 60
    assert [name for name in named if not any(str(path).endswith(f"/{name}") for path in places)] == []


def test_the_map_has_every_module():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = [path.name for path in (ROOT / "python" / "disttask").rglob("*.py")]
    assert len(modules) > 30
    assert [name for name in modules if f"{name}`" not in text] == []
