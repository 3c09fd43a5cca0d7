"""How messages look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from sojourn.cli.encode import Record
from sojourn.cli.output import Column, print_table

CUT = 160
"""How many characters of a message a table shows, unless it is to show all."""


def show_list(records: Iterable[Record], *, full: bool) -> None:
    """Print messages as a table."""
    columns = [
        Column("SEQ", lambda one: one["sequence"], right=True),
        Column("TIME", lambda one: (one["event_time"] or one["create_time"])[11:19]),
        Column("ROLE", lambda one: one["role"]),
        Column("CONTENT", lambda one: _text(one, full=full), fold=True),
    ]
    print_table(columns, records, nothing="No message matches.")


def _text(record: Record, *, full: bool) -> str:
    """Return what a message says; of one without a text, its payload."""
    text = record["content"]
    if text is None:
        text = record.get("payload_text")
    if text is None:
        payload = record.get("payload_base64", "")
        kind = record["content_type"] or "payload"
        return f"({kind}, {len(payload) * 3 // 4} bytes)" if payload else "(nothing)"
    if full:
        return str(text)
    shown = " ".join(str(text).split())
    rest = len(shown) - CUT
    return shown if rest <= 0 else f"{shown[:CUT]}… (+{rest} characters)"
