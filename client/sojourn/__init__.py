"""The client of Sojourn, a self-hosted session service for AI agents.

    import sojourn

    async with sojourn.connect("localhost:7070", app="support") as client:
        async with client.session("user-123", user="u-456") as session:
            async with session.turn() as turn:
                await turn.append("user", "Where is my order?")
                await turn.append("assistant", "On its way.")

`connect` gives an `AsyncClient`, `connect_sync` a `Client` of the same shape. What is read comes as
frozen dataclasses (`Session`, `Message`, …), what is written is described by others (`NewMessage`,
`StatePatch`, …), and what goes wrong is one class per reason in the tree of `sojourn.errors`.
Importing this opens no connection. `sojourn.testing` runs a real server inside tests.
"""

import logging

from sojourn import errors
from sojourn._async.cache import AsyncSessionCache
from sojourn._async.client import AsyncClient
from sojourn._async.handles import AsyncSessionHandle
from sojourn._async.live_turn import AsyncTurnHandle
from sojourn._async.pager import AsyncPager
from sojourn._async.recipes import AsyncAttempt
from sojourn._async.watch import AsyncWatch
from sojourn._json import JsonMap, RawJson
from sojourn._sync.cache import SessionCache
from sojourn._sync.client import Client
from sojourn._sync.handles import SessionHandle
from sojourn._sync.live_turn import TurnHandle
from sojourn._sync.pager import Pager
from sojourn._sync.recipes import Attempt
from sojourn._sync.watch import Watch
from sojourn.apps import App, AppBlockers, Policy, Threshold
from sojourn.changes import (
    AppChange,
    Bookmark,
    CacheUpdate,
    Change,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    SessionChange,
    WatchEvent,
    WatchPosition,
)
from sojourn.enums import (
    AppStatus,
    ChangeCause,
    DeletedWhy,
    DeleteMode,
    EndCause,
    ExpireCause,
    GroupBy,
    IfExists,
    LabelOperator,
    Membership,
    MessageOrder,
    OnConflict,
    OnExisting,
    Outcome,
    OverflowAction,
    QuotaAction,
    ResetScope,
    SessionOrder,
    Status,
    ThresholdAction,
    TurnOutcome,
    View,
)
from sojourn.errors import SojournError
from sojourn.inputs import (
    LabelSelector,
    MetricsDelta,
    NewMessage,
    NewSession,
    Precondition,
    SessionFilter,
    SessionLike,
    StatePatch,
    TimeRange,
)
from sojourn.models import (
    Lineage,
    Message,
    Metrics,
    Page,
    RolledUp,
    Session,
    SessionContent,
    SessionKey,
    SessionRef,
    State,
    Turn,
)
from sojourn.options import TLS, ApiKey, BearerToken, KeepaliveOptions, RetryOptions
from sojourn.recipes import retrying, tracked
from sojourn.reports import (
    AuditEntry,
    DroppedSession,
    ErasedCounts,
    Exported,
    ExportedApp,
    ExportedUser,
    ServerInfo,
    SessionAggregate,
)
from sojourn.results import (
    AppendResult,
    BackupResult,
    BeginTurnResult,
    CreateManyResult,
    DeleteAppResult,
    DeleteAppsResult,
    DeleteManyResult,
    DeleteResult,
    EndManyResult,
    EndResult,
    EndTurnResult,
    EraseResult,
    ExportResult,
    GetManyResult,
    ImportResult,
    PopResult,
    ReplaceResult,
    ResetResult,
    StateResult,
    TruncateResult,
    UpdateAppResult,
    UpdateResult,
)

# Whoever sets up no logging is not written to on stderr.
logging.getLogger("sojourn").addHandler(logging.NullHandler())

# A client is its own context manager, so that connecting is just making one.
connect = AsyncClient
connect_sync = Client

__all__ = [
    "TLS",
    "ApiKey",
    "App",
    "AppBlockers",
    "AppChange",
    "AppStatus",
    "AppendResult",
    "AsyncAttempt",
    "AsyncClient",
    "AsyncPager",
    "AsyncSessionCache",
    "AsyncSessionHandle",
    "AsyncTurnHandle",
    "AsyncWatch",
    "Attempt",
    "AuditEntry",
    "BackupResult",
    "BearerToken",
    "BeginTurnResult",
    "Bookmark",
    "CacheUpdate",
    "Change",
    "ChangeCause",
    "Client",
    "CreateManyResult",
    "DeleteAppResult",
    "DeleteAppsResult",
    "DeleteManyResult",
    "DeleteMode",
    "DeleteResult",
    "DeletedWhy",
    "DroppedSession",
    "EndCause",
    "EndManyResult",
    "EndResult",
    "EndTurnResult",
    "EraseResult",
    "ErasedCounts",
    "ExpireCause",
    "ExportResult",
    "Exported",
    "ExportedApp",
    "ExportedUser",
    "GetManyResult",
    "GroupBy",
    "IfExists",
    "ImportResult",
    "InitialSession",
    "InitialStateBegin",
    "InitialStateEnd",
    "JsonMap",
    "KeepaliveOptions",
    "LabelOperator",
    "LabelSelector",
    "Lineage",
    "Membership",
    "Message",
    "MessageOrder",
    "Metrics",
    "MetricsDelta",
    "NewMessage",
    "NewSession",
    "OnConflict",
    "OnExisting",
    "Outcome",
    "OverflowAction",
    "Page",
    "Pager",
    "Policy",
    "PopResult",
    "Precondition",
    "QuotaAction",
    "RawJson",
    "ReplaceResult",
    "ResetResult",
    "ResetScope",
    "RetryOptions",
    "RolledUp",
    "ServerInfo",
    "Session",
    "SessionAggregate",
    "SessionCache",
    "SessionChange",
    "SessionContent",
    "SessionFilter",
    "SessionHandle",
    "SessionKey",
    "SessionLike",
    "SessionOrder",
    "SessionRef",
    "SojournError",
    "State",
    "StatePatch",
    "StateResult",
    "Status",
    "Threshold",
    "ThresholdAction",
    "TimeRange",
    "TruncateResult",
    "Turn",
    "TurnHandle",
    "TurnOutcome",
    "UpdateAppResult",
    "UpdateResult",
    "View",
    "Watch",
    "WatchEvent",
    "WatchPosition",
    "connect",
    "connect_sync",
    "errors",
    "retrying",
    "tracked",
]
