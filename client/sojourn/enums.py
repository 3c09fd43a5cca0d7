"""The words with a fixed choice of values.

Each member's value is its name in the contract, so `Status("ACTIVE")` and `Status.ACTIVE.value` go
both ways. Where a newer server answers with a value that is not listed, the member is `UNKNOWN`.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = [
    "AppStatus",
    "ChangeCause",
    "DeleteMode",
    "DeletedWhy",
    "EndCause",
    "ExpireCause",
    "GroupBy",
    "IfExists",
    "LabelOperator",
    "Membership",
    "MessageOrder",
    "OnConflict",
    "OnExisting",
    "Outcome",
    "OverflowAction",
    "QuotaAction",
    "ResetScope",
    "SessionOrder",
    "Status",
    "ThresholdAction",
    "TurnOutcome",
    "View",
]


class Status(StrEnum):
    """How far a session has come. All but ACTIVE are final, and the first of them wins."""

    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


class ExpireCause(StrEnum):
    """Which of the two clocks ends a session first: idleness, or age."""

    IDLE = "IDLE"
    LIFETIME = "LIFETIME"
    UNKNOWN = "UNKNOWN"


class EndCause(StrEnum):
    """What ended a session."""

    REQUEST = "REQUEST"
    IDLE = "IDLE"
    LIFETIME = "LIFETIME"
    PARENT_ENDED = "PARENT_ENDED"
    OWNER_ENDED = "OWNER_ENDED"
    OWNER_LOST = "OWNER_LOST"
    THRESHOLD = "THRESHOLD"
    QUOTA = "QUOTA"
    APP = "APP"
    UNKNOWN = "UNKNOWN"


class View(StrEnum):
    """How much of a session an answer carries: FULL adds metadata, state, end reason and result."""

    BASIC = "BASIC"
    FULL = "FULL"


class SessionOrder(StrEnum):
    """What sessions are sorted by. Only CREATE_TIME repeats and misses none while others write."""

    CREATE_TIME = "CREATE_TIME"
    SESSION_ID = "SESSION_ID"
    UPDATE_TIME = "UPDATE_TIME"
    ACTIVITY_TIME = "ACTIVITY_TIME"


class MessageOrder(StrEnum):
    """Which way messages are read."""

    OLDEST_FIRST = "OLDEST_FIRST"
    NEWEST_FIRST = "NEWEST_FIRST"


class IfExists(StrEnum):
    """What creating a session does when the id is taken.

    FAIL raises `SessionExistsError`. RETURN_EXISTING answers the one there is, unless it has ended:
    `SessionEndedError`. REPLACE_ENDED deletes one that has ended and creates anew under a new uid.
    """

    FAIL = "FAIL"
    RETURN_EXISTING = "RETURN_EXISTING"
    REPLACE_ENDED = "REPLACE_ENDED"


class ResetScope(StrEnum):
    """What a reset clears."""

    HISTORY = "HISTORY"
    STATE = "STATE"
    METRICS = "METRICS"
    ALL = "ALL"


class OnConflict(StrEnum):
    """What beginning a turn does while another one is live: fail, wait in line, or take over."""

    REJECT = "REJECT"
    WAIT = "WAIT"
    STEAL = "STEAL"


class Outcome(StrEnum):
    """How a turn went."""

    OK = "OK"
    ERROR = "ERROR"


class LabelOperator(StrEnum):
    """What a `LabelSelector` asks of a label."""

    IN = "IN"
    NOT_IN = "NOT_IN"
    EXISTS = "EXISTS"
    NOT_EXISTS = "NOT_EXISTS"


class ChangeCause(StrEnum):
    """What brought a change about."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    STATE_CHANGED = "STATE_CHANGED"
    MESSAGES_APPENDED = "MESSAGES_APPENDED"
    MESSAGES_REMOVED = "MESSAGES_REMOVED"
    TURN_BEGAN = "TURN_BEGAN"
    TURN_ENDED = "TURN_ENDED"
    RESET = "RESET"
    ENDED = "ENDED"
    EXPIRED = "EXPIRED"
    DELETED = "DELETED"
    THRESHOLD = "THRESHOLD"
    APP_CREATED = "APP_CREATED"
    APP_UPDATED = "APP_UPDATED"
    APP_DRAINING = "APP_DRAINING"
    APP_DELETED = "APP_DELETED"
    USER_ERASED = "USER_ERASED"
    UNKNOWN = "UNKNOWN"


class Membership(StrEnum):
    """How a change stands to a watch's filter: matches now, still matches, or no longer does."""

    ENTERED = "ENTERED"
    CHANGED = "CHANGED"
    LEFT = "LEFT"
    UNKNOWN = "UNKNOWN"


class DeletedWhy(StrEnum):
    """Why a session was removed."""

    REQUEST = "REQUEST"
    RETENTION = "RETENTION"
    REPLACED = "REPLACED"
    APP = "APP"
    ERASED = "ERASED"
    UNKNOWN = "UNKNOWN"


class TurnOutcome(StrEnum):
    """How a turn ended: well, with an error, or by somebody else's doing."""

    OK = "OK"
    ERROR = "ERROR"
    ABANDONED = "ABANDONED"
    STOLEN = "STOLEN"
    REVOKED = "REVOKED"
    UNKNOWN = "UNKNOWN"


class AppStatus(StrEnum):
    """How far an app has come: in use, waiting for its last sessions, or deleted."""

    ACTIVE = "ACTIVE"
    DRAINING = "DRAINING"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"


class DeleteMode(StrEnum):
    """What the delete of an app does about live sessions.

    REFUSE fails and says who and until when; DRAIN takes no new sessions and turns, waits for those
    there are, and forces what is left at a deadline; FORCE ends and deletes all at once.
    """

    REFUSE = "REFUSE"
    DRAIN = "DRAIN"
    FORCE = "FORCE"


class QuotaAction(StrEnum):
    """What happens at a limit of active sessions: an error, or room is made by the idlest one."""

    REFUSE = "REFUSE"
    END_OLDEST_IDLE = "END_OLDEST_IDLE"
    UNKNOWN = "UNKNOWN"


class OverflowAction(StrEnum):
    """What happens at a session's limit of messages or bytes: an error, or the oldest ones go."""

    REFUSE = "REFUSE"
    DROP_OLDEST = "DROP_OLDEST"
    UNKNOWN = "UNKNOWN"


class ThresholdAction(StrEnum):
    """What happens when a session exceeds a threshold: a change THRESHOLD, or it ends as FAILED."""

    WARN = "WARN"
    END = "END"
    UNKNOWN = "UNKNOWN"


class OnExisting(StrEnum):
    """What an import does when a session's id is taken: fail, pass it over, or give it a new id."""

    FAIL = "FAIL"
    SKIP = "SKIP"
    RENAME = "RENAME"


class GroupBy(StrEnum):
    """What an aggregate groups sessions by."""

    USER = "USER"
    STATUS = "STATUS"
    LABEL = "LABEL"
