"""The benchmark runs: a small part of it, for a few seconds, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux tells")
@pytest.mark.timeout(60)
def test_a_quick_part_of_the_benchmark_gives_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--only", "echo,get"]
    command += ["--out", str(tmp_path / "results")]
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "results" / "bench.json").read_text(encoding="utf-8"))
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert figures.keys() == {"echo", "get"}
    assert figures["get"]["value"] > 1, "the floor is the floor"
    assert figures["get"]["facts"]["cpu_us"] > figures["echo"]["facts"]["cpu_us"]
    assert document["machine"]["cores"] > 0
    # The stores of the run are gone; what it found stays.
    left = {path.name for path in (tmp_path / "results").iterdir()}
    assert left == {"bench.json", "bench.svg"}


@pytest.mark.parametrize("name", ["gett", "echo,gett"])
def test_a_name_that_does_not_exist_is_refused(name: str) -> None:
    command = [sys.executable, "-m", "bench", "--only", name]
    done = run(command)
    assert done.returncode == 2
    assert "there is no gett" in done.stderr
