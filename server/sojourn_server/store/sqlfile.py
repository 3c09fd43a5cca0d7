"""Files of SQL: queries with names, each with a sentence, and numbered migrations."""

from __future__ import annotations

from importlib import resources
from typing import Final

_NAME: Final = "-- name: "


def load(package: str) -> dict[str, str]:
    """The queries of a backend, from its `queries.sql`."""
    return parse(resources.files(package).joinpath("queries.sql").read_text(encoding="utf-8"))


def migrations(package: str) -> list[tuple[int, str]]:
    """The numbered migrations of a backend, the oldest first."""
    folder = resources.files(package).joinpath("migrations")
    found = [
        (int(entry.name.partition("_")[0]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found)


def parse(text: str) -> dict[str, str]:
    """Cut a file of named queries into its queries.

    Args:
        text: Queries, each begun by a line `-- name: x` and a sentence as comment.

    Returns:
        The SQL of each name, on one line, without comments.

    Raises:
        ValueError: A name comes twice, or lacks its sentence or its SQL.
    """
    found: dict[str, str] = {}
    for block in ("\n" + text).split("\n" + _NAME)[1:]:
        name, _, rest = block.partition("\n")
        name = name.strip()
        lines = [line.strip() for line in rest.splitlines()]
        sentence = [line for line in lines if line.startswith("--")]
        sql = " ".join(line for line in lines if line and not line.startswith("--"))
        if name in found or not sentence or not sql:
            raise ValueError(f"query {name}: twice, without a sentence, or without SQL")
        found[name] = sql
    return found
