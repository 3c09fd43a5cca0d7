"""The public surface is what this list says, and importing it is free of effects."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import sojourn
from sojourn._async.client import AsyncClient
from sojourn._sync.client import Client

SURFACE = [
    "TLS",
    "connect",
    "connect_sync",
    "errors",
    "retrying",
    "tracked",
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
]


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(sojourn.__all__) == sorted(SURFACE)
    assert all(hasattr(sojourn, name) for name in sojourn.__all__)


def test_the_two_connects_are_the_two_clients() -> None:
    assert sojourn.connect is AsyncClient
    assert sojourn.connect_sync is Client


def arguments(cls: type, name: str) -> list[str]:
    return list(inspect.signature(getattr(cls, name)).parameters)


@pytest.mark.parametrize(
    "pair",
    [
        (sojourn.AsyncClient, sojourn.Client),
        (sojourn.AsyncSessionHandle, sojourn.SessionHandle),
        (sojourn.AsyncTurnHandle, sojourn.TurnHandle),
        (sojourn.AsyncPager, sojourn.Pager),
        (sojourn.AsyncWatch, sojourn.Watch),
        (sojourn.AsyncSessionCache, sojourn.SessionCache),
    ],
)
def test_both_faces_have_the_same_methods_and_arguments(pair: tuple[type, type]) -> None:
    def methods(cls: type) -> set[str]:
        return {name for name, _ in inspect.getmembers(cls, callable) if name[0] != "_"}

    one, other = pair
    assert methods(one) == methods(other)
    for name in (*methods(one), "__init__"):
        assert arguments(one, name) == arguments(other, name)


def test_importing_loads_neither_the_server_nor_the_extras() -> None:
    program = (
        "import sys, socket\n"
        "def refuse(*_): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import sojourn\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert not loaded & {
        "sojourn_server",
        "aiosqlite",
        "click",
        "opentelemetry",
        "protovalidate",
        "psycopg",
        "rich",
        "structlog",
        "uvloop",
    }


def test_every_public_name_has_a_docstring() -> None:
    folder = Path(sojourn.__file__).parent
    missing = [
        f"{path.name}:{node.lineno} {node.name}"
        for path in [*folder.glob("*.py"), *folder.glob("_*sync/*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name[0] != "_" and not ast.get_docstring(node)
    ]
    assert missing == []
