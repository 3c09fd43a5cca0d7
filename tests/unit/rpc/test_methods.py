"""The table of what is not built agrees with what is."""

from __future__ import annotations

import inspect

import pytest

from sojourn_server.rpc.admin_service import AdminServicer
from sojourn_server.rpc.app_service import AppServicer
from sojourn_server.rpc.history_service import HistoryServicer
from sojourn_server.rpc.methods import Method, methods, services
from sojourn_server.rpc.session_service import SessionServicer
from sojourn_server.rpc.turn_service import TurnServicer

SERVICERS = {
    "SessionService": SessionServicer,
    "TurnService": TurnServicer,
    "HistoryService": HistoryServicer,
    "AppService": AppServicer,
    "AdminService": AdminServicer,
}
METHODS = list(methods())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{method.service}/{method.name}")
def test_every_method_of_the_contract_is_built(method: Method):
    assert hasattr(SERVICERS[method.service], method.attribute)


def test_a_servicer_has_methods_of_the_contract_only():
    for service, servicer in SERVICERS.items():
        public = {
            name
            for name, _ in inspect.getmembers(servicer, inspect.isfunction)
            if not name.startswith("_")
        }
        assert public == {method.attribute for method in METHODS if method.service == service}


def test_the_contract_takes_one_stream_and_answers_two():
    assert [m.name for m in METHODS if m.requests_stream] == ["ImportSessions"]
    assert [m.name for m in METHODS if m.responses_stream] == [
        "WatchSessions",
        "ExportSessions",
    ]


def test_every_mutating_method_has_a_request_id():
    without = {method.name for method in METHODS if not method.has_request_id}
    assert without == {
        "AggregateSessions",
        "BatchGetSessions",
        "ExportSessions",
        "GetApp",
        "GetMessage",
        "GetServerInfo",
        "GetSession",
        "GetState",
        "ListApps",
        "ListAuditEntries",
        "ListMessages",
        "ListSessions",
        "WatchSessions",
        # Safe to repeat by themselves: never the same backup, nor the same session twice.
        "BackupStore",
        "ImportSessions",
        "RenewTurn",
        "TouchSession",
    }


def test_the_services_are_those_of_the_contract():
    assert services() == sorted(f"sojourn.v1.{name}" for name in SERVICERS)
