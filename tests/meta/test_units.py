"""Use cases write through `Units`, which does ahead what is too much for a unit or its commit.

`Units.store` has no `apply`, so the types already say so; a store that comes by another way
has one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from sojourn_server.store.base import BesideUnits, Store

SERVER = Path(__file__).resolve().parents[2] / "server" / "sojourn_server"

DOORS = {
    "service/units.py": "self._store",
    # Ordered on the command line, where no Units are; it touches no session.
    "service/feeds.py": "store",
}


def applied(source: str) -> Iterator[str]:
    """What something named `apply` is asked of, but for Units."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr == "apply":
            owner = ast.unparse(node.value)
            if owner.rpartition(".")[2] not in {"units", "_units"} and owner != "self":
                yield owner


def test_only_units_write_to_the_store() -> None:
    found = [
        (str(path.relative_to(SERVER)), owner)
        for path in sorted(SERVER.rglob("*.py"))
        if path.relative_to(SERVER).parts[0] != "store"
        for owner in applied(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == sorted(DOORS.items())


def test_the_search_finds_every_other_way() -> None:
    assert list(applied("await units.apply(u)\nawait self._units.apply(u)")) == []
    assert list(applied("await units.store.apply(u)")) == ["units.store"]
    assert list(applied("do = self._store.apply\nstore.apply(u)")) == ["self._store", "store"]


def test_what_units_show_of_the_store_has_no_apply() -> None:
    assert not hasattr(BesideUnits, "apply")
    assert hasattr(Store, "apply")
    (shown,) = (
        ast.unparse(node.annotation)
        for node in ast.walk(ast.parse((SERVER / "service/units.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "self.store"
    )
    assert shown == "BesideUnits"
