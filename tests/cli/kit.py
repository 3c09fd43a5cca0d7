"""What the tests of the command line share: a shell of their own app on a real server."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from click.testing import CliRunner, Result

from sojourn.cli.root import cli


@dataclass
class Shell:
    """Runs commands in this process, against a real server in another one."""

    target: str
    app: str
    runner: CliRunner = field(default_factory=CliRunner)

    def run(
        self, *arguments: str, stdin: str | bytes | None = None, status: int = 0, app: str = ""
    ) -> Result:
        """Run a command whose exit status must be this one."""
        command = [f"--target={self.target}", f"--app={app or self.app}", *arguments]
        done = self.runner.invoke(cli, command, input=stdin, prog_name="sojourn")
        assert done.exit_code == status, f"{done.exit_code}: {done.output}\n{done.exc_info}"
        assert "Traceback" not in done.output
        return done

    def json(self, *arguments: str, stdin: str | bytes | None = None) -> Any:
        """Run a command that prints one object, and return it."""
        [record] = self.lines(*arguments, stdin=stdin)
        return record

    def lines(self, *arguments: str, stdin: str | bytes | None = None) -> list[Any]:
        """Run a command that prints objects, and return them."""
        done = self.run(*arguments, stdin=stdin)
        return [json.loads(line) for line in done.stdout_bytes.split(b"\n") if line]

    def table(self, *arguments: str) -> str:
        """Run a command for people, and return what they see."""
        return self.run(*arguments, "--output=table").stdout

    def refusal(self, *arguments: str, status: int = 1, stdin: str | bytes | None = None) -> str:
        """Run a command that is refused, and return what it says on standard error."""
        done = self.run(*arguments, status=status, stdin=stdin)
        assert done.stdout == ""
        return done.stderr
