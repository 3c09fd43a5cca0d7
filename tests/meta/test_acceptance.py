"""Every row of the acceptance table has one test, which says what it shows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tests.acceptance.rows import OUT_OF_SCOPE, ROWS, SYSTEMS
from tools import gen_acceptance
from tools.gen_acceptance import PAGE, Showing, page, showings

COUNTS = {"S0": 25, "S1": 43, "S2": 33, "S3": 37, "S4": 21}
SERVERS = {"own", "place", "client", "blocking", "guarded", "talkative", "shell", "store"}
FLAGS = re.MULTILINE | re.DOTALL
EXAMPLE = '''
async def test_s0_01_context() -> None:
    """An agent
    remembers."""

def test_other() -> None:
    """Not a row's."""
'''


def test_the_rows_are_all_there() -> None:
    assert list(ROWS) == [
        f"{system}-{number:02}" for system in SYSTEMS for number in range(1, COUNTS[system] + 1)
    ]
    assert COUNTS.keys() == SYSTEMS.keys()
    assert len(ROWS) == 159


def test_every_row_has_one_test_or_a_reason() -> None:
    shown = Counter(showing.row for showing in showings())
    assert shown.keys() <= ROWS.keys(), "a test names a row that there is not"
    assert [row for row, count in shown.items() if count > 1] == []
    assert shown.keys() & OUT_OF_SCOPE.keys() == set()
    assert ROWS.keys() - shown.keys() - OUT_OF_SCOPE.keys() == set()


def test_every_test_says_what_it_shows_in_a_sentence() -> None:
    for showing in showings():
        assert re.fullmatch(r"[A-Z][^|]{20,}\.", showing.sentence), showing
        assert showing.module.startswith(f"test_seed{showing.row[1]}_"), showing


def test_every_test_meets_both_stores() -> None:
    """Each takes a fixture that stands for a server of either store, but for those of pages."""
    signature = re.compile(r"^(?:async )?def (test_s\d_\d\d_\w+)\((.*?)\) ->", FLAGS)
    seen = 0
    for path in sorted(gen_acceptance.TESTS.glob("test_seed*.py")):
        for name, parameters in signature.findall(path.read_text(encoding="utf-8")):
            seen += 1
            given = set(re.findall(r"(\w+):", parameters))
            assert given & SERVERS or name.endswith("_is_measured"), name
    assert seen == len(ROWS) - len(OUT_OF_SCOPE)


def test_the_page_names_every_row_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| (S\d-\d\d) \|", text, re.MULTILINE) == list(ROWS)
    assert "no test" not in text


def test_tests_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "test_seed0_x.py").write_text(EXAMPLE, encoding="utf-8")
    [showing] = showings(tmp_path)
    assert showing == Showing(
        "S0-01", "test_s0_01_context", "test_seed0_x.py", "An agent remembers."
    )
    assert "| An agent remembers. | `test_seed0_x.py`: `test_s0_01_context` |" in page(
        iter([showing])
    )
