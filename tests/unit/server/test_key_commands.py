"""`sojourn-server keys`: making, listing, rotating and revoking keys."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from sojourn_server.access import keys
from sojourn_server.access.identity import BadCredential
from sojourn_server.access.keys import Keys
from sojourn_server.command import command
from sojourn_server.domain.access import Permission

GRANT = ("--grant", "write", "support", "*")


class Shell:
    """Types commands about one file of keys."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, *arguments: str, status: int = 0) -> Result:
        """Type a command, which must end with this status."""
        done = CliRunner().invoke(command(), [f"--keys-file={self.path}", "keys", *arguments])
        assert done.exit_code == status, done.output
        assert "Traceback" not in done.output
        return done

    def create(self, *arguments: str) -> str:
        """A new key."""
        done = self.run("create", *arguments)
        assert done.stdout.count("\n") == 1  # nothing but the key, to be put into a variable
        return done.stdout.strip()

    def wrong(self, *arguments: str, status: int = 2) -> str:
        """What a command says that is refused."""
        done = self.run(*arguments, status=status)
        assert done.stdout == ""
        return done.stderr.strip().splitlines()[-1]

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        lines = self.run("list", "--output=json", *arguments).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def opens(self, key: str, now: float | None = None) -> bool:
        """Whether a server lets a key in."""
        found = Keys(keys.read_file(self.path.read_bytes()).keys)
        try:
            found.check(key, time.time() if now is None else now)
        except BadCredential:
            return False
        return True


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "keys.json")


def test_a_key_is_made_and_opens_what_it_was_granted(shell: Shell):
    key = shell.create("ci", *GRANT, "--grant", "read", "sales-*", "ann")
    identity, principal = Keys(keys.read_file(shell.path.read_bytes()).keys).check(key, time.time())
    assert identity.name == "key:ci"
    assert principal.users("support", Permission.WRITE).everyone
    assert principal.users("sales-eu", Permission.READ).covers("ann")
    assert not principal.users("sales-eu", Permission.READ).covers("bob")
    assert principal.users("sales", Permission.READ).nobody
    assert stat.S_IMODE(shell.path.stat().st_mode) == 0o600


def test_the_key_alone_goes_to_stdout_and_its_id_beside_it(shell: Shell):
    done = shell.run("create", "ci", *GRANT)
    [entry] = shell.listed()
    assert done.stderr == f"id {entry['id']}, principal key:ci\n"
    assert done.stdout.startswith(f"sj_{entry['id']}_")


def test_no_list_and_no_file_holds_a_secret(shell: Shell):
    made = [shell.create("ci", *GRANT) for _ in range(3)]
    shell.run("revoke", made[0].split("_")[1])
    told = shell.path.read_text() + "".join(
        shell.run("list", "--all", f"--output={how}").output for how in ("table", "json")
    )
    for key in made:
        assert key.split("_")[1] in told
        assert key.split("_", 2)[2] not in told
    hashes = [key.hash for key in keys.read_file(shell.path.read_bytes()).keys]
    listed = shell.run("list", "--all", "--output=json").output
    assert not any(each in listed for each in hashes)


def test_a_list_names_all_that_is_known_of_a_key(shell: Shell):
    shell.create("ci", *GRANT, "--grant", "read", "support", "", "--expires", "90d")
    [entry] = shell.listed()
    made = datetime.fromisoformat(entry.pop("create_time"))
    assert datetime.now(UTC) - made < timedelta(minutes=5)
    assert datetime.fromisoformat(entry.pop("expire_time")) == made + timedelta(days=90)
    assert len(identifier := entry.pop("id")) == 12
    assert entry == {
        "name": "ci",
        "principal": "key:ci",
        "status": "live",
        "revoke_time": None,
        "grants": [
            {"role": "write", "app": "support", "user": "*"},
            {"role": "read", "app": "support", "user": ""},
        ],
    }
    line = shell.run("list").stdout
    assert line.startswith(f"{identifier}  ci  live  made ")
    assert line.endswith('  write support *, read support ""\n')


def test_a_rotation_keeps_both_keys_good_until_the_old_one_is_revoked(shell: Shell):
    old = shell.create("ci", *GRANT, "--grant", "reset", "support", "*")
    new = shell.create("ci")
    assert shell.opens(old)
    assert shell.opens(new)
    first, second = shell.listed()
    assert first["grants"] == second["grants"]
    assert shell.run("revoke", first["id"]).stdout == f"revoked: {first['id']}\n"
    assert not shell.opens(old)
    assert shell.opens(new)
    assert [entry["id"] for entry in shell.listed()] == [second["id"]]
    assert [entry["status"] for entry in shell.listed("--all")] == ["revoked", "live"]
    again = "revoked: none, they were already\n"
    assert shell.run("revoke", first["id"]).stdout == again


def test_grants_are_those_of_the_newest_key_that_is_good(shell: Shell):
    shell.create("ci", "--grant", "read", "a", "*")
    shell.create("ci", "--grant", "read", "b", "*")
    shell.create("ci", "--grant", "read", "c", "*")
    shell.run("revoke", shell.listed()[-1]["id"])
    shell.create("ci")
    assert [grant["app"] for grant in shell.listed()[-1]["grants"]] == ["b"]


def test_by_name_all_keys_of_it_are_revoked_and_no_others(shell: Shell):
    made = [shell.create("ci", *GRANT), shell.create("ci"), shell.create("cd", *GRANT)]
    shell.run("revoke", "ci")
    assert [shell.opens(key) for key in made] == [False, False, True]


def test_several_are_revoked_at_once_or_none(shell: Shell):
    key = shell.create("ci", *GRANT)
    said = shell.wrong("revoke", shell.listed()[0]["id"], "nobody", status=1)
    assert said == "Error: no key has the id or the name nobody."
    assert shell.opens(key)


def test_a_key_expires(shell: Shell):
    key = shell.create("ci", *GRANT, "--expires", "1h30m")
    assert shell.opens(key)
    assert shell.opens(key, time.time() + 5_300)
    assert not shell.opens(key, time.time() + 5_401)


def test_an_expired_key_is_in_the_whole_list_alone_and_gives_no_grants(shell: Shell):
    shell.create("ci", *GRANT)
    file = keys.read_file(shell.path.read_bytes())
    past = keys.utc_now() - timedelta(seconds=1)
    late = tuple(msgspec.structs.replace(key, expire_time=past) for key in file.keys)
    keys.write_file(shell.path, msgspec.structs.replace(file, keys=late))
    assert shell.listed() == []
    assert [entry["status"] for entry in shell.listed("--all")] == ["expired"]
    assert shell.wrong("create", "ci") == (
        "Error: ci has no live key to take grants from: give --grant."
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "ci"), "ci has no live key to take grants from: give --grant."),
        (
            ("create", "", *GRANT),
            "NAME is 1 to 128 letters, digits, dots, dashes, underscores or @.",
        ),
        (
            ("create", "a b", *GRANT),
            "NAME is 1 to 128 letters, digits, dots, dashes, underscores or @.",
        ),
        (
            ("create", "é", *GRANT),
            "NAME is 1 to 128 letters, digits, dots, dashes, underscores or @.",
        ),
        (
            ("create", "a" * 129, *GRANT),
            "NAME is 1 to 128 letters, digits, dots, dashes, underscores or @.",
        ),
        (
            ("create", "ci", "--grant", "owner", "a", "*"),
            "--grant: a role is one of read, write, reset, admin, not owner.",
        ),
        (
            ("create", "ci", "--grant", "read", "", "*"),
            "--grant: APP is a pattern of apps, * for all of them.",
        ),
        (("create", "ci", "--grant", "read", "a"), "Option '--grant' requires 3 arguments."),
        (("create", "ci", *GRANT, "--expires", "0"), "--expires must be at least 1s."),
        (("create", "ci", *GRANT, "--expires", "900ms"), "--expires must be at least 1s."),
        (("create",), "Missing argument 'NAME'."),
        (("revoke",), "Missing argument 'ID_OR_NAME...'."),
    ],
)
def test_wrong_use_is_refused_with_a_sentence(shell: Shell, arguments: tuple[str, ...], said: str):
    assert shell.wrong(*arguments) == f"Error: {said}"
    assert not shell.path.exists()


def test_a_length_that_is_none_is_refused(shell: Shell):
    assert shell.wrong("create", "ci", *GRANT, "--expires", "soon").startswith("Error: --expires: ")


def test_without_a_file_the_command_asks_which():
    done = CliRunner().invoke(command(), ["keys", "list"])
    assert done.exit_code == 2
    assert "Which file? Name it with --keys-file, or set SOJOURN_KEYS_FILE." in done.stderr


def test_the_file_may_be_named_by_the_variable(shell: Shell, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOJOURN_KEYS_FILE", str(shell.path))
    done = CliRunner().invoke(
        command(), ["keys", "create", "ci", *GRANT], auto_envvar_prefix="SOJOURN"
    )
    assert done.exit_code == 0
    assert shell.opens(done.stdout.strip())


def a_folder(path: Path) -> None:
    path.mkdir()


def broken(path: Path) -> None:
    path.write_text("{}[")


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (nothing, "{} is not there."),
        (a_folder, "{} cannot be read (Is a directory)."),
        (broken, "keys_file: it is no file of keys; make one with keys create."),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_a_sentence(
    shell: Shell, state: Callable[[Path], None], said: str
):
    state(shell.path)
    for arguments in (("list",), ("revoke", "ci")):
        assert shell.wrong(*arguments, status=1) == f"Error: {said.format(shell.path)}"


def test_a_broken_file_is_not_written_over(shell: Shell):
    broken(shell.path)
    shell.run("create", "ci", *GRANT, status=1)
    assert shell.path.read_text() == "{}["


def test_a_folder_that_is_not_there_is_said_in_a_sentence(tmp_path: Path):
    said = Shell(tmp_path / "none" / "keys.json").wrong("create", "ci", *GRANT, status=1)
    assert said.endswith("cannot be written (No such file or directory).")


def test_of_commands_at_once_each_keeps_its_key(shell: Shell):
    """Two that read before either writes would lose one."""
    shell.create("k", *GRANT)
    line = [sys.executable, "-m", "sojourn_server", f"--keys-file={shell.path}", "keys", "create"]
    own = {name: value for name, value in os.environ.items() if "SOJOURN" not in name}
    running = [
        subprocess.Popen([*line, "k"], env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(4)
    ]
    made = [each.communicate(timeout=60)[0].decode().strip() for each in running]
    assert len(set(made)) == 4
    assert all(shell.opens(key) for key in made)
    assert len(shell.listed()) == 5
    assert {each.name for each in shell.path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}
