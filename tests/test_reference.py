"""docs/reference: its examples run, and every public name has an entry with an example that uses it."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import disttask
from disttask import _options
from disttask.integrations import flask

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
PAGES = sorted(REFERENCE.glob("*.md"))
PROVIDED = {"disttask": disttask, "flask": flask}
"""What entries are about. Those of the second are written `flask.Disttask`."""

FOR_EXECUTORS = {"Future.set_result", "Future.set_exception", "Future.set_running_or_notify_cancel"}
"""What `concurrent.futures` keeps for those who write an executor. Here futures are resolved natively."""

END_OF_BLOCK = "\x1e"
FENCE = re.compile(r"^```(?P<language>\w*)$")
HEADING = re.compile(r"^#{2,4} (?P<title>.*)$")
NAMES = re.compile(r"`([^`]+)`")


@dataclass
class Block:
    page: Path
    line: int
    """Of its first line, from 1."""
    code: str
    printed: str = ""


@dataclass
class Entry:
    """What stands under a heading that names public names."""

    page: Path
    line: int
    names: list[str]
    blocks: list[Block] = field(default_factory=list)

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def read(page):
    """The blocks and the entries of a page. An entry goes on until the next heading."""
    blocks, entries, entry, inside, start = [], [], None, None, 0
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if inside is None and (heading := HEADING.match(line)):
            names = NAMES.findall(heading["title"])
            entry = Entry(page, number, names) if names else None
            entries += [entry] if entry else []
        elif fence := FENCE.match(line):
            if inside is None:
                inside, start = fence["language"], number
                continue
            text = "\n".join(lines[start : number - 1]) + "\n"
            if inside == "python":
                blocks.append(Block(page, start + 1, text))
                if entry is not None:
                    entry.blocks.append(blocks[-1])
            elif inside == "text" and blocks:
                blocks[-1].printed += text
            inside = None
    assert inside is None, f"{page.name}: the block of line {start} has no end"
    return blocks, entries


CONTENTS = {page: read(page) for page in PAGES}
ENTRIES = [entry for _, entries in CONTENTS.values() for entry in entries]
COUNT = Counter(name for entry in ENTRIES for name in entry.names)
WITH_CODE = [page for page in PAGES if CONTENTS[page][0]]


FIRST_LINE = (
    "import os, sys, traceback; "
    "sys.excepthook = lambda *exc: (traceback.print_exception(*exc), sys.stderr.flush(), os._exit(1))"
)
"""An example that fails is not to wait for the endless tasks that it has submitted."""


def as_script(page):
    """The page's blocks as one script, with each line where it stands in the page; the first is the title's."""
    lines = [FIRST_LINE] + [""] * len(page.read_text().splitlines())
    for block in CONTENTS[page][0]:
        code = block.code.splitlines()
        lines[block.line - 1 : block.line - 1 + len(code)] = code
        lines[block.line - 1 + len(code)] = f"print({END_OF_BLOCK!r})"  # the fence
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_the_examples_run_and_print_what_they_say(page, tmp_path):
    """From top to bottom, as one script: what a block has made, those below it use."""
    script = tmp_path / f"page_{page.stem}.py"  # no module is called so
    script.write_text(as_script(page))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    outputs = done.stdout.split(END_OF_BLOCK + "\n")
    assert outputs.pop() == "", "something is printed when all is done"
    same = doctest.OutputChecker().check_output
    for block, printed in zip(CONTENTS[page][0], outputs, strict=True):
        where = f"{page.name}:{block.line}"
        assert same(block.printed, printed, doctest.ELLIPSIS), f"{where} prints\n{printed}instead of\n{block.printed}"


def documented_attributes(kind):
    """The names under ``Attributes:`` in its docstring."""
    section = re.search(r"^Attributes:\n(.*?)(?=^\S|\Z)", inspect.getdoc(kind) or "", re.MULTILINE | re.DOTALL)
    return re.findall(r"^    (\w+):", section[1], re.MULTILINE) if section else []


def members(kind):
    """Public ones, also those from the standard library's executors and futures; of an exception, documented ones."""
    for base in kind.__mro__:
        ours = base.__module__.split(".")[0] in ("disttask", "concurrent")
        if ours and not issubclass(kind, BaseException):
            yield from (name for name in vars(base) if not name.startswith("_"))
    yield from documented_attributes(kind)


def public_names():
    """As entries write them: ``submit``, ``Executor``, ``Executor.submit``."""
    found = dict.fromkeys(disttask.__all__) | {"flask.Disttask": None}
    for name in list(found):
        kind = resolve(name)
        if inspect.isclass(kind):
            found |= dict.fromkeys(f"{name}.{member}" for member in members(kind))
    return [name for name in found if name not in FOR_EXECUTORS]


def resolve(name):
    """What an entry's name stands for; an attribute that instances get is its own name."""
    found, path = disttask, name.split(".")
    if path[0] == "flask":
        found, path = flask, path[1:]
    for part in path:
        if inspect.isclass(found) and not hasattr(found, part) and part in documented_attributes(found):
            return part
        found = getattr(found, part)
    return found


def attributes_within(name):
    """Of a class, the documented attributes that stand in its own entry, having none for themselves."""
    kind = resolve(name)
    return [one for one in documented_attributes(kind) if f"{name}.{one}" not in COUNT] if inspect.isclass(kind) else []


def test_every_public_name_has_one_entry():
    within = {f"{name}.{one}" for name in public_names() if name in COUNT for one in attributes_within(name)}
    missing = [name for name in public_names() if name not in COUNT and name not in within]
    assert not missing, "docs/reference needs an entry, with an example, for " + ", ".join(missing)
    assert [name for name, times in COUNT.items() if times > 1] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_is_about_what_there_is(entry):
    for name in entry.names:
        assert name in public_names(), f"{entry}: there is no public {name}"


def used(block):
    """The names in a block: ``disttask.x`` and imports as ``x``, any attribute as ``.x``, a keyword as ``x=``."""
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield f".{node.attr}"
            if isinstance(node.value, ast.Name) and node.value.id == "disttask":
                yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.keyword) and node.arg:
            yield f"{node.arg}="


def uses(entry):
    return {name for block in entry.blocks for name in used(block)}


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_has_an_example_that_uses_it(entry):
    found = uses(entry)
    for name in entry.names:
        owner, _, last = name.rpartition(".")
        wanted = f".{last}" if owner not in ("", "flask") else last
        assert wanted in found, f"{entry}: no example uses {name}"
        for attribute in attributes_within(name):
            assert f".{attribute}" in found, f"{entry}: no example uses its {attribute}"


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_an_entry_shows_what_comes_of_it(entry):
    asserts = (isinstance(node, ast.Assert) for block in entry.blocks for node in ast.walk(ast.parse(block.code)))
    assert any(asserts) or any(block.printed for block in entry.blocks)


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and not one.name.startswith("_")]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Executor", keywords(disttask.Executor)),
        ("Executor.options", keywords(_options.Options)),
        ("Executor.map", keywords(disttask.Executor.map)),
        ("configure", keywords(disttask.configure)),
    ],
)
def test_every_argument_is_shown(name, wanted):
    """On the page of the entry, under whatever heading."""
    page = next(entry.page for entry in ENTRIES if name in entry.names)
    shown = {used_name for block in CONTENTS[page][0] for used_name in used(block)}
    missing = [argument for argument in wanted if f"{argument}=" not in shown]
    assert not missing, f"{page.name} needs an example of {name} with " + ", ".join(missing)


def test_the_pages_are_short_enough_to_read():
    for page in PAGES:
        assert len(page.read_text().splitlines()) <= 400, page


def anchors(page):
    """What a heading is linked by."""
    return {
        re.sub(r"[^\w\- ]", "", heading["title"].lower()).replace(" ", "-")
        for line in page.read_text().splitlines()
        if (heading := re.match(r"#+ (?P<title>.*)", line))
    }


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]*)\)", page.read_text()):
            if target.startswith("https://"):
                continue
            file, _, anchor = target.partition("#")
            found = (page.parent / file).resolve() if file else page
            assert found.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(found), f"{page.name}: {target}"


def test_the_first_page_leads_to_every_other_and_every_name():
    text = (REFERENCE / "README.md").read_text()
    for page in PAGES:
        assert page.name == "README.md" or f"]({page.name})" in text, page.name
    names = set(NAMES.findall(text))
    for entry in ENTRIES:
        for name in entry.names:
            assert name in names or "." in name, f"{name} is not in the list of names"


PAGE_WITH_A_LIE = """
### `submit`

```python
print(1)
```

```text
2
```

### Prose

```python
disttask.submit(abs, x=1).result()
```
"""


def test_a_lie_is_noticed(tmp_path):
    """The checks above can fail."""
    page = tmp_path / "page.md"
    page.write_text(PAGE_WITH_A_LIE)
    blocks, (entry,) = read(page)
    assert [block.printed for block in blocks] == ["2\n", ""]
    assert (entry.names, uses(entry)) == (["submit"], set())
    assert set(used(blocks[1])) == {".submit", "submit", "x=", ".result"}
