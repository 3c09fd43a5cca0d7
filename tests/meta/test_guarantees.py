"""The guarantees of the change feed and its tests name each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.watch.seeds import SEEDS
from tests.watch.validators import GUARANTEES

TESTS = Path(__file__).resolve().parent.parent
PAGE = TESTS.parent / "docs" / "explanation" / "watch.md"
ROW = re.compile(r"^\| (W\d+) \|", re.MULTILINE)


def guarantees() -> list[str]:
    """The numbers of the guarantees, in the page's table."""
    return ROW.findall(PAGE.read_text(encoding="utf-8"))


def named(path: Path) -> Iterator[str]:
    """The numbers that a test module names in `pytest.mark.guarantee(...)`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.guarantee":
            for argument in node.args:
                assert isinstance(argument, ast.Constant)
                yield str(argument.value)


def modules_by_guarantee() -> dict[str, set[str]]:
    """Which test modules name which guarantee."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number in named(path):
            found.setdefault(number, set()).add(path.name)
    return found


def test_the_page_has_each_guarantee_once() -> None:
    assert guarantees() == [f"W{number}" for number in range(1, 21)]


def test_every_guarantee_has_a_test() -> None:
    assert set(guarantees()) - modules_by_guarantee().keys() == set()


def test_no_test_names_an_unknown_guarantee() -> None:
    assert modules_by_guarantee().keys() - set(guarantees()) == set()


def test_validators_and_bugs_name_known_guarantees() -> None:
    assert GUARANTEES.keys() <= set(guarantees())
    assert {seed.guarantee for seed in SEEDS} <= set(guarantees())


def test_the_page_has_every_bug_and_what_it_breaks() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for seed in SEEDS:
        assert f"| {seed.name} | {seed.guarantee} |" in page


def test_the_page_names_a_test_module_of_each_guarantee() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for number, modules in modules_by_guarantee().items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {number} |")]
        files = set(re.findall(r"`(test_\w+\.py)`", row))
        assert files, number
        assert files <= modules, number


def test_the_search_finds_what_a_module_names(tmp_path: Path) -> None:
    path = tmp_path / "test_x.py"
    path.write_text('@pytest.mark.guarantee("W1", "W99")\ndef test_a(): ...\n', encoding="utf-8")
    assert list(named(path)) == ["W1", "W99"]
