"""The packaging, the locks and the door: what a fresh clone relies on."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.longest import LONGEST
from tools import check_lengths

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)

# Written in pieces, so that this file does not name what it forbids.
FORBIDDEN = [
    *("".join(parts) for parts in [("/wo", "rk/"), ("/ro", "ot/"), ("/opt/wh", "eels")]),
    *(f"{host}.{end}" for host, end in [("pypi", "org"), ("pythonhosted", "org")]),
    *(f"{host}.{end}" for host, end in [("registry.npmjs", "org"), ("proxy.golang", "org")]),
]


def locked(name: str) -> dict[str, str]:
    return dict(LOCKED.findall((ROOT / name).read_text(encoding="utf-8")))


def requirements(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    lines = [line for extra in extras for line in optional[extra]]
    parsed = [Requirement(line) for line in [*PROJECT["dependencies"], *lines]]
    return [each for each in parsed if each.name != PROJECT["name"]]


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_base_dependencies_are_the_clients_alone() -> None:
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert names == {"googleapis-common-protos", "grpcio", "protobuf"}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ("cli", "server", "dev")),
        ("requirements-server.lock", ("cli", "server")),
    ],
)
def test_lock_holds_what_pyproject_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    versions = locked(lock)
    for requirement in requirements(*extras):
        # Locks spell names as the index does.
        version = versions[requirement.name.lower()]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


@pytest.mark.parametrize("lock", ["requirements-server.lock", "requirements-build.lock"])
def test_image_runs_the_versions_that_are_tested(lock: str) -> None:
    versions = locked(lock)
    assert versions
    assert versions.items() <= locked("requirements.lock").items()


def test_generator_is_the_oldest_supported_one() -> None:
    floor = next(each for each in requirements() if each.name == "grpcio")
    generator = locked("requirements-gen.lock")["grpcio-tools"]
    assert floor.specifier.contains(generator)
    assert f">={'.'.join(generator.split('.')[:2])}" in str(floor.specifier)


def test_ci_runs_the_developers_door() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [
        line
        for line in script.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["make test"]


def test_no_file_names_a_registry_or_a_machines_path() -> None:
    files = tracked_files()
    assert len(files) > 20
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in files
        for text in FORBIDDEN
        if text.encode() in path.read_bytes()
    ]
    assert not found


def test_file_of_500_lines_is_too_long(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "fits.py").write_text("x = 1\n" * 499, encoding="utf-8")
    (folder / "long.py").write_text("x = 1\n" * 500, encoding="utf-8")
    assert check_lengths.too_long(tmp_path) == [(folder / "long.py", 500)]
    assert check_lengths.main(["--root", str(tmp_path)]) == 1


def test_a_check_of_no_files_fails(tmp_path: Path) -> None:
    assert check_lengths.main(["--root", str(tmp_path)]) == 1


def test_the_files_that_begin_first_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []
    assert len(LONGEST) == len(set(LONGEST))
