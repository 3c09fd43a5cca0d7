"""The benchmark runs: a small part of it, for a few seconds, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import postgres
from bench.database import NoDatabase
from bench.plan import Plan
from bench.results import TARGETS, Results

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux tells")
@pytest.mark.timeout(60)
def test_a_quick_part_on_postgresql_gives_figures_or_says_why_not(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--only", "postgres_get"]
    command += ["--out", str(tmp_path / "results")]
    done = run(command)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "results" / "bench.json").read_text(encoding="utf-8"))
    if document["skipped"]:
        (why,) = document["skipped"]
        assert "no build of PostgreSQL" in why
        return
    (figure,) = document["figures"]
    assert figure["name"] == "postgres get"
    assert figure["value"] > 0.5
    assert figure["facts"]["database_us"] > 0
    assert any("PostgreSQL" in note for note in document["notes"])


def test_without_a_postgresql_its_part_is_skipped_visibly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(folder: Path) -> None:
        raise NoDatabase("there is no build of PostgreSQL for this platform")

    monkeypatch.setattr(postgres, "Database", none_here)
    results = Results()
    postgres.measure(Plan(quick=True, only=frozenset()), tmp_path, results, print)
    assert results.figures == []
    assert results.skipped == ["postgres: there is no build of PostgreSQL for this platform"]


def test_every_target_of_postgresql_is_of_a_figure_that_it_adds() -> None:
    names = {f"postgres {job}" for job in postgres.WRITES} | {"postgres syncs", "postgres get"}
    names |= {f"postgres list {kind}" for kind in ("user", "label", "user+label")}
    names |= {f"postgres list {kind}" for kind in ("active", "completed")}
    assert {name for name in TARGETS if name.startswith("postgres")} == names
