"""The drift checks find what they are for: each test breaks a copy and sees the check fail."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import drift, gen_sync

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / ".venv-gen" / "bin" / "python"

ASYNC_CLIENT = '''\
"""A client."""

from collections.abc import AsyncIterator


class AsyncClient:
    """Yields things; made by `sojourn._async`.

    For example:

        async with AsyncClient() as client:
            await client.close()
    """

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def items(self) -> AsyncIterator[int]:
        async for item in self.items():
            yield item
        await self.close()
'''


def change_a_byte(folder: Path) -> None:
    path = max(folder.rglob("*.py"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def truncate(folder: Path) -> None:
    path = max(folder.rglob("*.py"))
    path.write_bytes(path.read_bytes()[:-1])


def add_a_file(folder: Path) -> None:
    (folder / "stray.py").write_text("", encoding="utf-8")


def remove_a_file(folder: Path) -> None:
    max(folder.rglob("*.py")).unlink()


BREAKS = [change_a_byte, truncate, add_a_file, remove_a_file]
every_break = pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)


def generate_stubs(stubs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert GENERATOR.exists(), "run `make setup` first"
    folders = ["--stubs", str(stubs), "--protos", str(stubs.parent / "protos")]
    command = [str(GENERATOR), "-m", "tools.gen", *folders, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Freshly generated stubs, beside a copy of the protos they come from."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    done = generate_stubs(tmp_path / "v1")
    assert done.returncode == 0, done.stderr
    return tmp_path / "v1"


def test_fresh_stubs_have_not_drifted(stubs: Path) -> None:
    done = generate_stubs(stubs, "--check")
    assert done.returncode == 0, done.stderr


@every_break
def test_stub_drift_is_found(stubs: Path, damage: Callable[[Path], None]) -> None:
    damage(stubs)
    done = generate_stubs(stubs, "--check")
    assert done.returncode == 1
    assert "make gen" in done.stderr


def test_changed_contract_is_found_in_its_surface(stubs: Path) -> None:
    surface = stubs.parent / "protos" / "sojourn" / "v1" / "surface.txt"
    surface.write_text(surface.read_text(encoding="utf-8").replace("= 1 ", "= 2 ", 1), "utf-8")
    done = generate_stubs(stubs, "--check")
    assert done.returncode == 1
    assert "surface.txt differs" in done.stderr


def test_too_few_stubs_are_a_failure(stubs: Path) -> None:
    done = generate_stubs(stubs, "--check", "--minimum=1000")
    assert done.returncode == 1
    assert "at least 1000 expected" in done.stderr


@every_break
def test_comparison_sees_both_directions(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    fresh, committed = tmp_path / "fresh", tmp_path / "committed"
    fresh.mkdir()
    (fresh / "a.py").write_text("first\n", encoding="utf-8")
    (fresh / "b.py").write_text("second\n", encoding="utf-8")
    shutil.copytree(fresh, committed)
    assert drift.differences(fresh, committed, minimum=2) == []
    damage(committed)
    assert len(drift.differences(fresh, committed, minimum=2)) == 1


def test_two_empty_folders_do_not_agree(tmp_path: Path) -> None:
    assert drift.differences(tmp_path, tmp_path, minimum=1)


def test_replacing_a_folder_removes_what_is_no_longer_generated(tmp_path: Path) -> None:
    fresh, target = tmp_path / "fresh", tmp_path / "target"
    fresh.mkdir()
    target.mkdir()
    (fresh / "kept.py").write_text("new\n", encoding="utf-8")
    (target / "kept.py").write_text("old\n", encoding="utf-8")
    (target / "stale.py").write_text("old\n", encoding="utf-8")
    drift.replace_folder(fresh, target)
    assert drift.differences(fresh, target, minimum=1) == []


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with one async source of one module, and a table that fits it."""
    monkeypatch.setattr(gen_sync, "SOURCES", {"client/_async": 1})
    monkeypatch.setattr(gen_sync, "WORDS", {"_async": "_sync", "AsyncClient": "Client"})
    taking_out = {phrase: to for phrase, to in gen_sync.PHRASES.items() if not to}
    monkeypatch.setattr(gen_sync, "PHRASES", taking_out)
    source = tmp_path / "client" / "_async"
    source.mkdir(parents=True)
    (source / "client.py").write_text(ASYNC_CLIENT, encoding="utf-8")
    return tmp_path


def generate(repository: Path, *arguments: str) -> int:
    return gen_sync.main(["--root", str(repository), *arguments])


def test_sync_client_is_the_async_one_without_its_waiting(repository: Path) -> None:
    assert generate(repository) == 0
    text = (repository / "client" / "_sync" / "client.py").read_text(encoding="utf-8")
    assert text.startswith("# Generated from client/_async/client.py")
    assert '    def __enter__(self) -> "Client":\n' in text
    assert "        with Client() as client:\n            client.close()\n" in text
    assert "        for item in self.items():\n" in text
    assert not re.search(r"\b(async|await|Async\w*)\b", text)
    assert generate(repository, "--check") == 0


@every_break
def test_sync_drift_is_found(repository: Path, damage: Callable[[Path], None]) -> None:
    generate(repository)
    damage(repository / "client" / "_sync")
    assert generate(repository, "--check") == 1


def test_rule_that_nothing_uses_is_an_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gen_sync.WORDS, "async_sleep", "sleep")
    assert generate(repository) == 1
    assert "async_sleep" in capsys.readouterr().err


def test_async_name_without_a_rule_is_an_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(gen_sync.WORDS, "AsyncClient")
    with pytest.raises(SystemExit, match="AsyncClient"):
        generate(repository)


def test_sync_folder_without_its_source_is_an_error(repository: Path) -> None:
    generate(repository)
    shutil.rmtree(repository / "client" / "_async")
    assert generate(repository, "--check") == 1


def test_absent_source_is_said_aloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(tmp_path, "--check") == 0
    said = capsys.readouterr().out
    for source in gen_sync.SOURCES:
        assert f"{source} does not exist yet" in said
