"""What users of process pools complain of (bench/complaints): disttask passes, and the page says what is tried."""

from pathlib import Path

import pytest
from complaints.cases import CASES
from complaints.page import history_of, outcomes_of, page, row_head, rows
from complaints.peers import SYSTEMS
from complaints.run import run_cell

PAGE = Path(__file__).parents[1] / "docs" / "complaints.md"


@pytest.mark.parametrize("key", [key for key, case in CASES.items() if not case.slow])
def test_no_complaint_of_disttask(key):
    cell = run_cell("disttask", key)
    assert cell["mark"] in {"ok", "skip"}, f"{cell['saw']}\n{cell['log']}"


@pytest.mark.parametrize(
    ("key", "mark", "saw"), [("1-death_of_one", "wrong", "of 7 lost"), ("3-retries", "none", "not offered")]
)
def test_what_goes_wrong_is_seen(key, mark, saw):
    cell = run_cell("PPE fork", key)
    assert cell["mark"] == mark
    assert saw in cell["saw"]


def test_the_page_has_the_cases_that_there_are():
    found = rows(PAGE.read_text())
    assert [head for head, _ in found] == [row_head(case) for case in CASES.values()]
    assert {len(cells) for _, cells in found} == {len(SYSTEMS)}


def test_no_row_of_ours_is_red_on_the_page():
    outcomes = outcomes_of(PAGE.read_text())
    assert [key for key, found in outcomes.items() if found["disttask"]["mark"] != "ok"] == []


def test_a_page_that_is_read_is_written_again_as_it_was():
    text = PAGE.read_text()
    assert page(outcomes_of(text), history_of(text)) == text
