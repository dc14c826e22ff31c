"""The README's Python blocks run as they stand, each as a script of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[2][:30])
def test_block_runs(block, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(block)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_is_sent_to_a_strangers_package():
    root = README.parent
    for file in [*root.glob("*.md"), *root.glob("examples/**/*"), *root.glob("python/**/*.py")]:
        if file.suffix in (".md", ".py"):
            assert "disttask[" not in file.read_text(), file


def test_every_link_leads_somewhere():
    text = README.read_text()
    targets = re.findall(r"\]\(([^)\s]*)", text)
    assert len(targets) >= 6
    for target in targets:
        assert target.startswith(("https://", "#")) or (README.parent / target).exists(), target
    assert text.count("](") == len(re.findall(r"\]\([^)\s]+\)", text)), "a link without an end"


def test_the_two_commands_exist():
    makefile = (README.parent / "Makefile").read_text()
    for command in re.findall(r"^make (\w+)", README.read_text(), re.MULTILINE):
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command
