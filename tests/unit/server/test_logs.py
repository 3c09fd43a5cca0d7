"""Log lines: JSON, named, correlated, without content."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

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
