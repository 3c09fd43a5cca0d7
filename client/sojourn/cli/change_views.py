"""How the events of a watch look on a terminal: a line each."""

from __future__ import annotations

import sojourn
from sojourn.cli.failures import visible
from sojourn.cli.session_views import name_of

SIGNS = {"ENTERED": "+", "CHANGED": "~", "LEFT": "-"}


def line_of(event: sojourn.WatchEvent) -> str:
    """Return an event as one line."""
    match event:
        case sojourn.SessionChange():
            sign = SIGNS.get(event.membership.value, "?")
            return _line(event, f"{sign} {name_of(event.session)}", _details(event))
        case sojourn.AppChange():
            whose = f"user {event.user}" if event.user is not None else f"app {event.app}"
            return _line(event, f"* {whose}", ", ".join(event.state_keys))
        case sojourn.Change():
            return _line(event, "*", "")
        case sojourn.Bookmark():
            return f"nothing else up to revision {event.revision}"
        case sojourn.InitialSession():
            return f"= {visible(name_of(event.session))}  {event.session.status.value}"
        case sojourn.InitialStateBegin():
            why = "" if event.why is None else f" anew: {event.why.reason}"
            return f"the state begins{why}"
        case sojourn.InitialStateEnd():
            return f"the state is complete at revision {event.revision}"


def _line(change: sojourn.Change, what: str, details: str) -> str:
    head = f"{change.time:%H:%M:%S}  {change.revision:>6}  {change.cause.value:<17}"
    return visible(f"{head}  {what}  {details}".rstrip())


def _details(change: sojourn.SessionChange) -> str:
    parts = [*change.label_keys, *change.metadata_keys, *change.state_keys]
    if change.first_sequence:
        parts.append(f"messages {change.first_sequence} to {change.last_sequence}")
    if change.turn_outcome is not None:
        parts.append(change.turn_outcome.value)
    if change.deleted_why is not None:
        parts.append(change.deleted_why.value)
    if change.cause in {sojourn.ChangeCause.ENDED, sojourn.ChangeCause.EXPIRED}:
        parts.append(change.session.status.value)
    return ", ".join(parts)
