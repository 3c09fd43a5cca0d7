"""The storage contract and its tests name the same sentences."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from sojourn_server.store import base

TESTS = Path(__file__).resolve().parent.parent
SENTENCE = re.compile(r"^ {4}(S\d+) +\S", re.MULTILINE)


def sentences() -> list[str]:
    """The numbers of the sentences in the contract's docstring."""
    return SENTENCE.findall(base.__doc__ or "")


def named_rules(path: Path) -> set[str]:
    """The numbers that a test module names in `pytest.mark.rule(...)`."""
    return {
        argument.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rule"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def rules_below(folder: Path) -> dict[str, set[str]]:
    """Which test modules name which rule."""
    named: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for rule in named_rules(path):
            named.setdefault(rule, set()).add(path.name)
    return named


def test_the_contract_has_its_sentences_each_once() -> None:
    found = sentences()
    assert len(found) >= 20
    assert len(found) == len(set(found))


def test_every_sentence_has_a_test() -> None:
    assert set(sentences()) - set(rules_below(TESTS / "store")) == set()


def test_every_backend_is_held_to_all_but_the_faults_of_its_own_kind() -> None:
    """What only a backend's own tests can see: full and failing disks, and bytes in files."""
    own = {"S50", "S92"}
    assert set(sentences()) - set(rules_below(TESTS / "store" / "conformance")) == own


def test_no_test_names_an_unknown_sentence() -> None:
    assert set(rules_below(TESTS)) - set(sentences()) == set()


def test_the_search_finds_names_and_their_absence(tmp_path: Path) -> None:
    module = tmp_path / "test_x.py"
    module.write_text('@pytest.mark.rule("S1", "S99")\ndef test_a():\n    pass\n')
    assert named_rules(module) == {"S1", "S99"}
    module.write_text("def test_a():\n    pass\n")
    assert named_rules(module) == set()
