"""AIECS' own agent loop, where AIECS is installed: `make test-adapters ADAPTERS=aiecs`."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.kit import Place

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiecs") is None,
    reason="aiecs does not go together with our other packages: make test-adapters has it",
)


def test_an_agent_goes_on_where_another_one_was(place: Place, app: str) -> None:
    """AIECS' agent keeps its conversation in the session, and a new agent knows it."""
    program = Path(__file__).parent / "real_agent.py"
    done = subprocess.run(
        [sys.executable, str(program), place.target, app],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    first, second = (f"FINAL RESPONSE: answer {number} finish" for number in (1, 2))
    assert found["results"] == [True, True]
    assert found["requests"] == 2
    assert found["history"] == [
        ["user", "Question 0"],
        ["assistant", first],
        ["user", "Question 1"],
        ["assistant", second],
    ]
    assert {"Question 0", first} <= set(found["second"])
