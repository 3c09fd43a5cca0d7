"""Candidate lists: which index answers which hints, and the SQL that follows.

In create order, and for whole apps in any order, a list is one range of one index,
begun at the key where the last page ended, or a few that are merged. The sessions of one
user or parent in an order of time are sorted first; these are few.

A backend brings the fragments, the queries whose names begin with `list_`; this module
joins one source, any filters, a place to go on from, and an order.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from sojourn_server.domain.model import Status
from sojourn_server.store.base import Candidates, Position, SortBy
from sojourn_server.store.rows import ORDER_BITS, Row, try_uid_blob

Parameters = dict[str, Any]

_IDLE: Final = "idle"
_RESTED: Final = "rested"
_COLUMN: Final = {
    SortBy.CREATE: "create",
    SortBy.SESSION_ID: "name",
    SortBy.UPDATE: "update",
    SortBy.ACTIVITY: "activity",
}
"""What fragments call an order."""


class _Shape(NamedTuple):
    """What a query's text depends on."""

    sort_by: SortBy
    descending: bool
    user: bool
    status: bool
    label: bool
    parent: bool
    after: bool
    part: str = ""
    """Of a whole app by activity, `idle`, the ACTIVE ones, or `rested`, all others: each
    session is in the index of one of them."""


def _in_create_order(shape: _Shape) -> tuple[str, set[str]]:
    """The source of a list in create order, and the hints that it answers by itself."""
    if shape.parent:
        return "parent", {"status"}
    if shape.user and shape.status:
        return "user", {"user", "status"}
    if shape.label:
        return "label", {"label"}
    if shape.status:
        return "status", {"status"}
    return "app", set()


def _in_other_order(shape: _Shape) -> tuple[str, set[str]]:
    """The same for a list in another order."""
    if shape.parent:
        return "parent_any", set()
    if shape.user:
        if shape.sort_by is SortBy.SESSION_ID:
            return "key", {"user"}
        return ("user_status_any", {"user", "status"}) if shape.status else ("user_any", {"user"})
    if shape.part:
        return shape.part, {"status"} if shape.part == _IDLE else set()
    return _COLUMN[shape.sort_by], set()


def _parts(query: Candidates) -> Sequence[str]:
    """Which parts of an app a list is of; one without a name where nothing is parted."""
    if (
        query.sort_by is not SortBy.ACTIVITY
        or query.user is not None
        or query.parent_uid is not None
    ):
        return ("",)
    if query.status is None:
        return (_IDLE, _RESTED)
    return (_IDLE if query.status is Status.ACTIVE else _RESTED,)


class Lists:
    """The lists of one backend.

    Args:
        queries: Its queries, by name; those for lists are among them.
    """

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = queries
        self._composed: dict[_Shape, str] = {}
        # Each shape's SQL, made once: a driver finds its prepared statement by the text.

    def plan(self, query: Candidates, app_pk: int) -> list[tuple[str, Parameters]]:
        """The statements whose answers, merged in the list's order, are the list.

        More than one only for sessions of every status: of one user, or of one parent, in
        create order, one range of the index for each status; of a whole app by activity,
        those that are ACTIVE and those that are not.

        Args:
            query: What is asked for.
            app_pk: The app's number.
        """
        low, high = app_pk << ORDER_BITS, (app_pk + 1) << ORDER_BITS
        parameters: Parameters = {"app_pk": app_pk, "low": low, "high": high, "limit": query.limit}
        if query.after is not None:
            at = low + query.after.create_order
            parameters["value_after"], parameters["pk_after"] = query.after.value, at
            if query.sort_by is SortBy.CREATE:
                parameters["high" if query.descending else "low"] = at
        if query.user is not None:
            parameters["user"] = query.user
        if query.status is not None:
            parameters["status"] = int(query.status)
        if query.label is not None:
            parameters["key"], parameters["value"] = query.label
        if query.parent_uid is not None:
            parent = try_uid_blob(query.parent_uid)
            if parent is None:
                return []
            parameters["parent"] = parent
        split = (
            query.sort_by is SortBy.CREATE
            and query.status is None
            and (query.user is not None or query.parent_uid is not None)
        )
        shape = _Shape(
            query.sort_by,
            query.descending,
            query.user is not None,
            query.status is not None or split,
            query.label is not None,
            query.parent_uid is not None,
            query.after is not None,
        )
        if split:
            sql = self._sql(shape)
            return [(sql, {**parameters, "status": int(status)}) for status in Status]
        return [(self._sql(shape._replace(part=part)), parameters) for part in _parts(query)]

    def _sql(self, shape: _Shape) -> str:
        sql = self._composed.get(shape)
        if sql is None:
            sql = self._composed[shape] = self._compose(shape)
        return sql

    def _compose(self, shape: _Shape) -> str:
        by_creation = shape.sort_by is SortBy.CREATE
        source, answered = _in_create_order(shape) if by_creation else _in_other_order(shape)
        way = "down" if shape.descending else "up"
        column = _COLUMN[shape.sort_by]
        names = [f"from_{source}"]
        if shape.user and "user" not in answered:
            names.append("and_user")
        if shape.status and "status" not in answered:
            names.append("and_status")
        if shape.label and "label" not in answered:
            names.append("and_label")
        if shape.after and not by_creation:
            names.append(self._of("after", source, column, way))
        names.append(self._of("order", source, column, way))
        return " ".join(self._queries[f"list_{name}"] for name in names)

    def _of(self, what: str, source: str, column: str, way: str) -> str:
        """The place or order of a source, where it has one of its own; else of the column."""
        own = f"{what}_{source}_{way}"
        return own if f"list_{own}" in self._queries else f"{what}_{column}_{way}"


def ended_after(app_pk: int, after: Position | None) -> tuple[int, int]:
    """The end time and the number of a session, after which a list of ended ones begins."""
    if after is None:
        return -1, 0
    return int(after.value), app_pk << ORDER_BITS | after.create_order


def merged(query: Candidates, answers: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of a list, from the answers to the statements of its plan."""
    if len(answers) == 1:
        return [row[:2] for row in answers[0]]
    rows: Iterator[Row] = heapq.merge(*answers, key=_place_of(query), reverse=query.descending)
    return [row[:2] for row, _ in zip(rows, range(query.limit), strict=False)]


def _place_of(query: Candidates) -> Callable[[Row], Any]:
    """Where a row stands in a list that is merged: parts come with what they are sorted by."""
    return itemgetter(0) if query.sort_by is SortBy.CREATE else itemgetter(2, 0)
