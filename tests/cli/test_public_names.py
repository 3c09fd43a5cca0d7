"""The command line is built on what every user of the client can use."""

import ast
import sys
from pathlib import Path

import sojourn

FOLDER = Path(sojourn.__file__).parent / "cli"
FILES = sorted(FOLDER.rglob("*.py"))
OTHERS = {*sys.stdlib_module_names, "click", "rich"}


def test_the_command_line_imports_only_public_modules() -> None:
    assert len(FILES) > 20
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                if node.module == "sojourn":
                    assert {alias.name for alias in node.names} <= {*sojourn.__all__, "cli"}, file
            else:
                continue
            for name in names:
                assert (
                    name == "sojourn"
                    or name.startswith("sojourn.cli")
                    or name.split(".")[0] in OTHERS
                ), f"{file.name} imports {name}"


def test_the_command_line_uses_only_public_names_of_the_client() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "sojourn"
            ):
                assert node.attr in sojourn.__all__, f"{file.name} uses sojourn.{node.attr}"
