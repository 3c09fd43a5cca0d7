"""From the arguments of a watch to the request that opens its stream. Pure."""

from __future__ import annotations

from datetime import timedelta

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._convert import to_duration
from sojourn.changes import WatchPosition
from sojourn.v1 import session_service_pb2

SHORTEST_INTERVAL = timedelta(milliseconds=100)
LONGEST_INTERVAL = timedelta(seconds=60)


def watch_sessions(
    app: str,
    fields: inputs.SelectionFields,
    *,
    previous: bool = False,
    content: bool = False,
    app_changes: bool = False,
    bookmark_interval: inputs.Duration | None = None,
) -> session_service_pb2.WatchSessionsRequest:
    """Build WatchSessions without its start."""
    unknown = fields.keys() - inputs.SelectionFields.__annotations__.keys()
    if unknown:
        raise check.invalid(min(unknown), "is nothing that a watch can be asked for")
    user = fields.get("user")
    interval = None
    if bookmark_interval is not None:
        interval = check.duration(
            "bookmark_interval",
            bookmark_interval,
            minimum=SHORTEST_INTERVAL,
            maximum=LONGEST_INTERVAL,
        )
    return session_service_pb2.WatchSessionsRequest(
        app=check.app_name(app),
        user=None if user is None else check.name("user", user),
        parent_uid=describe.uid_of("parent", fields.get("parent", "")),
        filter=describe.session_filter(
            fields.get("filter"), fields.get("status"), fields.get("labels")
        ),
        include_previous=check.flag("previous", previous),
        include_content=check.flag("content", content),
        include_app_changes=check.flag("app_changes", app_changes),
        bookmark_interval=None if interval is None else to_duration(interval),
    )


def start(after: str | WatchPosition, *, initial_state: bool) -> WatchPosition:
    """Return where a watch begins; without a token it is now, or the state."""
    if isinstance(after, WatchPosition):
        position = after
        check.integer("after.revision", position.revision)
        check.integer("after.index", position.index, minimum=-1)
    else:
        position = WatchPosition(after)
    check.opaque("after", position.token, maximum=1024)
    if position.token and check.flag("initial_state", initial_state):
        raise check.invalid("after", "cannot be set together with initial_state")
    if not position.token and position.revision:
        raise check.invalid("after", "a position without a token is none")
    return position
