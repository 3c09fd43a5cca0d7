"""The table of what is not built agrees with what is."""

from __future__ import annotations

import inspect

import pytest

from sojourn_server.rpc.admin_service import AdminServicer
from sojourn_server.rpc.app_service import AppServicer
from sojourn_server.rpc.history_service import HistoryServicer
from sojourn_server.rpc.methods import NOT_BUILT, Method, methods, services
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
def test_a_method_is_built_exactly_when_the_table_does_not_name_it(method: Method):
    assert hasattr(SERVICERS[method.service], method.attribute) == method.built


def test_the_table_names_methods_of_the_contract_only():
    assert {f"{method.service}/{method.name}" for method in METHODS} >= NOT_BUILT


def test_a_servicer_has_methods_of_the_contract_only():
    for service, servicer in SERVICERS.items():
        public = {
            name
            for name, _ in inspect.getmembers(servicer, inspect.isfunction)
            if not name.startswith("_")
        }
        assert public == {
            method.attribute for method in METHODS if method.service == service and method.built
        }


def test_what_is_built_takes_one_stream_and_answers_two():
    assert [m.name for m in METHODS if m.built and m.requests_stream] == ["ImportSessions"]
    assert [m.name for m in METHODS if m.built and m.responses_stream] == [
        "WatchSessions",
        "ExportSessions",
    ]


def test_every_mutating_method_has_a_request_id():
    without = {method.name for method in METHODS if method.built and not method.has_request_id}
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
