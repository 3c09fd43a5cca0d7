"""Log lines: JSON, named, correlated, without content."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sojourn_server import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The logs are as they were afterwards."""
    sink, root = logs.Log.sink, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logs.Log.sink = sink
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_json_with_part_level_and_time(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "json")
    logs.Log("rpc").info("it happened", count=3)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "it happened", "part": "rpc", "level": "info", "count": 3}


def test_a_line_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]):
    logs.configure("warning", "json")
    log = logs.Log("rpc")
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == [
        "c",
        "d",
    ]


def test_a_logger_made_before_the_configuration_obeys_it(capsys: pytest.CaptureFixture[str]):
    log = logs.Log("early")
    logs.configure("debug", "json")
    log.debug("seen")
    assert "seen" in capsys.readouterr().err


def test_a_call_s_line_carries_its_correlation_id(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "json")
    token = logs.correlation.set("c-1")
    logs.Log("rpc").info("it happened")
    logs.correlation.reset(token)
    assert json.loads(capsys.readouterr().err)["correlation_id"] == "c-1"


def test_lines_for_people_are_lines(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "console")
    logs.Log("rpc").info("it happened", count=3)
    line = capsys.readouterr().err
    assert "it happened" in line
    assert "count" in line
    assert not line.startswith("{")


def test_a_fault_names_where_and_what_and_never_the_text():
    def fails() -> None:
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret") as caught:
        fails()
    facts = logs.fault(caught.value)
    assert facts["error"] == ["builtins.ValueError"]
    assert "in fails" in str(facts["frames"])
    assert "secret" not in str(facts)


def test_a_chain_of_faults_that_bites_its_tail_ends():
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert logs.fault(first)["error"] == ["builtins.ValueError", "builtins.KeyError"]


def test_a_log_that_nobody_takes_fails_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with (tmp_path / "log").open("w", encoding="utf-8") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        logs.configure("debug", "json")
        logs.Log("rpc").info("heard")
    logs.Log("rpc").info("not heard")
    logs.Log("rpc").error("nor this")
    assert (tmp_path / "log").read_text(encoding="utf-8").count("\n") == 1


def test_what_a_library_says_is_told_without_what_it_put_in(capsys: pytest.CaptureFixture[str]):
    logs.configure("info", "json")
    logging.getLogger("library").info("not even this")
    logging.getLogger("library").warning("cannot reach %s", "secret")
    line = json.loads(capsys.readouterr().err)
    assert (line["library"], line["said"]) == ("library", "cannot reach %s")
    assert line["where"].partition(":")[0] == __file__
    assert "secret" not in str(line)


def test_an_exception_that_nobody_caught_is_told_of_without_its_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    logs.configure("info", "json")
    logs.guard()
    sys.excepthook(ValueError, ValueError("secret"), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    line = json.loads(capsys.readouterr().err)
    assert line["error"] == ["builtins.ValueError"]
    assert "secret" not in str(line)


@pytest.mark.parametrize(("error", "level"), [("ExecuteBatchError", "debug"), ("Other", "error")])
def test_a_caller_who_left_fills_no_log(
    error: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """grpc logs an error whenever a caller leaves while it is being answered."""
    written: list[str] = []
    taken = SimpleNamespace(
        **{
            name: lambda *_, name=name, **__: written.append(name)
            for name in ("debug", "info", "warning", "error")
        }
    )
    monkeypatch.setattr(logs.Log, "sink", taken)
    raised = type(error, (Exception,), {})()
    record = logging.LogRecord(
        "grpc._cython.cygrpc", logging.ERROR, "events.py", 80, "", (), (type(raised), raised, None)
    )
    logs._Libraries().emit(record)
    assert written == [level]
