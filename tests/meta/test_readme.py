"""What the README says is run: its Python, its shell commands, and what it says is missing."""

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from tests.meta import pages
from tools import demo, gen_cli_docs

README = (pages.ROOT / "README.md").read_text(encoding="utf-8")
TARGET = "localhost:7070"


def blocks(language: str) -> list[str]:
    return [block.text for block in pages.blocks(README) if block.language == language]


@pytest.fixture
def target(tmp_path: Path):
    with demo.server(tmp_path) as address:
        yield address


def test_the_python_prints_what_the_readme_says(target: str, tmp_path: Path) -> None:
    [code] = blocks("python")
    [printed] = blocks("text")
    assert TARGET in code
    file = tmp_path / "readme.py"
    file.write_text(code.replace(TARGET, target), encoding="utf-8")
    assert pages.shell(f"python {file}", tmp_path) == printed


def test_the_shell_commands_run_as_they_stand(target: str, tmp_path: Path) -> None:
    [commands] = [text for text in blocks("sh") if "SOJOURN_APP" in text]
    said = pages.shell(commands, tmp_path, SOJOURN_TARGET=target)
    assert said.count('"session_id": "user-123"') == 7
    assert '"status": "COMPLETED"' in said.splitlines()[-1]


def test_the_server_starts_as_the_readme_says(tmp_path: Path) -> None:
    [command] = [text.strip() for text in blocks("sh") if text.startswith("sojourn-server")]
    # The variables only choose a free port, and say which one it is.
    free_port = {"SOJOURN_LISTEN": "127.0.0.1:0", "SOJOURN_PORT_FILE": "port"}
    script = f"""
        {command} 2> log & server=$!
        for _ in $(seq 200); do [ -s port ] && break; sleep 0.05; done
        sojourn --target "127.0.0.1:$(cat port)" --app a sessions create s-1
        kill $server
        wait $server
    """
    assert '"session_id": "s-1"' in pages.shell(script, tmp_path, **free_port)
    assert (tmp_path / "sojourn.db").exists()


def test_the_make_targets_exist() -> None:
    commands = [line for text in blocks("sh") for line in text.splitlines() if "make " in line]
    assert commands == ["make demo", "make test"]
    makefile = (pages.ROOT / "Makefile").read_text(encoding="utf-8")
    for command in commands:
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, re.MULTILINE)


def test_the_extras_exist_and_the_readme_is_packaged() -> None:
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {name for text in re.findall(r"\[([a-z,]+)\]", README) for name in text.split(",")}
    assert {"cli", "server"} <= named & project["optional-dependencies"].keys()
    assert project["readme"] == "README.md"


def test_the_reference_of_the_command_line_is_checked(tmp_path: Path, monkeypatch) -> None:
    page = tmp_path / "cli.md"
    shutil.copy(gen_cli_docs.PAGE, page)
    monkeypatch.setattr(gen_cli_docs, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["gen_cli_docs", "--check"])
    with pytest.raises(SystemExit) as ended:
        gen_cli_docs.main()
    assert ended.value.code is None
    page.write_text(page.read_text(encoding="utf-8").replace("--verify", "--trust"), "utf-8")
    with pytest.raises(SystemExit, match="make gen"):
        gen_cli_docs.main()
