"""Candidate lists: which index answers which hints, and the SQL that follows.

In create order, and for whole apps in any order, a list is one range of one index,
begun at the key where the last page ended. The sessions of one user or parent in an
order of time are sorted first; these are few.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from sojourn_server.domain.model import Status
from sojourn_server.store.base import Candidates, SortBy
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.rows import ORDER_BITS, try_uid_blob

Parameters = dict[str, Any]


class _Shape(NamedTuple):
    """What a query's text depends on."""

    sort_by: SortBy
    descending: bool
    user: bool
    status: bool
    label: bool
    parent: bool
    after: bool


_AFTER: Final = {
    (SortBy.SESSION_ID, False): QUERIES.list_after_name_up,
    (SortBy.SESSION_ID, True): QUERIES.list_after_name_down,
    (SortBy.UPDATE, False): QUERIES.list_after_update_up,
    (SortBy.UPDATE, True): QUERIES.list_after_update_down,
    (SortBy.ACTIVITY, False): QUERIES.list_after_activity_up,
    (SortBy.ACTIVITY, True): QUERIES.list_after_activity_down,
}
_ORDER: Final = {
    (SortBy.CREATE, False): QUERIES.list_order_create_up,
    (SortBy.CREATE, True): QUERIES.list_order_create_down,
    (SortBy.SESSION_ID, False): QUERIES.list_order_name_up,
    (SortBy.SESSION_ID, True): QUERIES.list_order_name_down,
    (SortBy.UPDATE, False): QUERIES.list_order_update_up,
    (SortBy.UPDATE, True): QUERIES.list_order_update_down,
    (SortBy.ACTIVITY, False): QUERIES.list_order_activity_up,
    (SortBy.ACTIVITY, True): QUERIES.list_order_activity_down,
}
_LABEL_ORDER: Final = {
    False: QUERIES.list_order_label_up,
    True: QUERIES.list_order_label_down,
}
_WHOLE_APP: Final = {
    SortBy.SESSION_ID: QUERIES.list_from_name,
    SortBy.UPDATE: QUERIES.list_from_update,
    SortBy.ACTIVITY: QUERIES.list_from_activity,
}


def _in_create_order(shape: _Shape) -> tuple[str, set[str]]:
    """The source of a list in create order, and the hints that it answers by itself."""
    if shape.parent:
        return QUERIES.list_from_parent, set()
    if shape.user and shape.status:
        return QUERIES.list_from_user, {"user", "status"}
    if shape.label:
        return QUERIES.list_from_label, {"label"}
    if shape.status:
        return QUERIES.list_from_status, {"status"}
    return QUERIES.list_from_app, set()


def _in_other_order(shape: _Shape) -> tuple[str, set[str]]:
    """The same for a list in another order."""
    if shape.parent:
        return QUERIES.list_from_parent, set()
    if shape.user:
        by_id = shape.sort_by is SortBy.SESSION_ID
        return (QUERIES.list_from_key if by_id else QUERIES.list_from_user_any), {"user"}
    return _WHOLE_APP[shape.sort_by], set()


def _compose(shape: _Shape) -> str:
    by_creation = shape.sort_by is SortBy.CREATE
    source, answered = _in_create_order(shape) if by_creation else _in_other_order(shape)
    parts = [source]
    if shape.user and "user" not in answered:
        parts.append(QUERIES.list_and_user)
    if shape.status and "status" not in answered:
        parts.append(QUERIES.list_and_status)
    if shape.label and "label" not in answered:
        parts.append(QUERIES.list_and_label)
    if shape.after and not by_creation:
        parts.append(_AFTER[shape.sort_by, shape.descending])
    if "label" in answered:
        parts.append(_LABEL_ORDER[shape.descending])
    else:
        parts.append(_ORDER[shape.sort_by, shape.descending])
    return " ".join(parts)


_COMPOSED: Final[dict[_Shape, str]] = {}
"""Each shape's SQL, made once: the driver finds its prepared statement by the text."""


def plan(query: Candidates, app_pk: int) -> list[tuple[str, Parameters]]:
    """The statements whose answers, merged in the list's order, are the list.

    More than one only for a user's sessions of every status in create order: one range
    of the index for each status.

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
        and query.user is not None
        and query.status is None
        and query.parent_uid is None
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
    sql = _COMPOSED.get(shape)
    if sql is None:
        sql = _COMPOSED[shape] = _compose(shape)
    if split:
        return [(sql, {**parameters, "status": int(status)}) for status in Status]
    return [(sql, parameters)]
