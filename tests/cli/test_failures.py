"""What goes wrong ends in one sentence and a documented status, never in a traceback."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sojourn.cli.failures import ExitCode, visible
from tests.cli.kit import Shell

COMMAND = str(Path(sys.executable).with_name("sojourn"))
NOWHERE = "--target=127.0.0.1:1"


def test_a_refusal_is_one_sentence_with_its_reason(shell: Shell) -> None:
    said = shell.refusal("sessions", "get", "nope")
    assert said == "sojourn: SESSION_NOT_FOUND: there is no such session\n"


def test_verbose_adds_the_correlation_id_and_the_facts(shell: Shell) -> None:
    lines = shell.refusal("-v", "sessions", "get", "nope").splitlines()
    assert "  method: GetSession" in lines
    assert "  session_id: nope" in lines
    assert any(re.fullmatch(r"  correlation id: \S{8,}", line) for line in lines)


def test_nobody_there_is_status_3(shell: Shell) -> None:
    said = shell.refusal(NOWHERE, "--deadline=5", "sessions", "list", status=3)
    assert said == "sojourn: UNAVAILABLE: no server answers at 127.0.0.1:1\n"


def test_the_options_of_all_commands_may_stand_after_the_command(shell: Shell) -> None:
    shell.refusal("sessions", "list", NOWHERE, status=3)
    shell.run("sessions", "create", "s-1", "--app", "elsewhere")
    assert "SESSION_NOT_FOUND" in shell.refusal("sessions", "get", "s-1")
    assert shell.json("sessions", "get", "s-1", "--app", "elsewhere")["app"] == "elsewhere"


def test_variables_stand_for_options_and_options_win(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOJOURN_OUTPUT", "table")
    assert "session" in shell.run("sessions", "create", "s-1").stdout
    assert shell.lines("sessions", "list", "--output=json")
    monkeypatch.setenv("SOJOURN_TARGET", "127.0.0.1:1")
    assert shell.run("sessions", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command"),
        (["sessions", "get"], "Which session?"),
        (["sessions", "get", " "], "Which session?"),
        (["sessions", "create", ""], "The SESSION_ID is empty"),
        (["sessions", "create", "a" * 257], "INVALID_FIELD"),
        (["sessions", "create", "a", "-l", "x"], "key=value"),
        (["sessions", "create", "a", "-l", "x="], "INVALID_FIELD"),
        (["sessions", "create", "a", "-l", "x=1", "-l", "x=2"], "twice"),
        (["sessions", "create", "a", "--state", "[1]"], "must be an object"),
        (["sessions", "create", "a", "--state", '{"a": NaN}'], "NaN is not JSON"),
        (["sessions", "create", "a", "--state", "@/no/such/file"], "cannot read /no/such/file"),
        (["sessions", "create", "a", "--state", "[" * 100_000], "nested too deeply"),
        (["sessions", "create", "a", "--idle-timeout", "soon"], "no duration"),
        (["sessions", "end", "a", "--result", "{"], "no JSON value"),
        (["sessions", "get", "--uid", "nope"], "INVALID_FIELD"),
        (["sessions", "list", "--all", "--status", "failed"], "exclude each other"),
        (["sessions", "list", "-l", "=x"], "selects no label"),
        (["sessions", "update", "a", "--count", "x=y"], "whole number"),
        (["--deadline=0", "sessions", "list"], "--deadline"),
        (["--api-key=a b", "sessions", "list"], "printable ASCII"),
        (["--api-key=k", "--target=example.org:1", "sessions", "list"], "add --tls"),
        (["--tls-cert=" + __file__, "sessions", "list"], "go together"),
        (["messages", "append", "a", "x", "--file", __file__], "not both"),
        (["messages", "append", "a", "x", "--json-lines"], "says everything"),
        (["messages", "append", "a"], "The standard input is empty"),
        (["replay", "/no/such/file"], "does not exist"),
    ],
)
def test_a_mistake_in_the_command_is_status_2(
    shell: Shell, arguments: list[str], said: str
) -> None:
    assert said in shell.refusal(*arguments, status=2)


def test_text_that_is_not_utf8_is_refused(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    said = shell.refusal("messages", "append", "s-1", stdin=b"abc\xff", status=2)
    assert "not UTF-8 at byte 4" in said


def test_without_an_app_it_asks_which(shell: Shell) -> None:
    done = shell.run("--app", "", "sessions", "list", status=2)
    assert "Which app?" in done.stderr


def test_control_characters_do_not_reach_the_terminal(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    shell.run("messages", "append", "s-1", "a\x1b[31m\x07[bold]b[/bold]\x9bc")
    table = shell.table("messages", "list", "s-1")
    assert r"a\x1b[31m\x07[bold]b[/bold]\x9bc" in table
    assert visible("a\tb\nc") == "a\\tb\\nc"
    assert visible("שלום 👩🏽‍🚀 e\u0301") == "שלום 👩🏽‍🚀 e\u0301"


def test_a_reader_that_goes_away_ends_the_command_quietly(shell: Shell) -> None:
    lines = "\n".join('{"role": "user", "content": "%s"}' % ("x" * 1000) for _ in range(500))
    shell.run("messages", "append", "s-1", "--create", "--json-lines", stdin=lines)
    command = [COMMAND, f"--target={shell.target}", f"--app={shell.app}", "messages", "list", "s-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 1


def test_a_disk_that_is_full_is_said(shell: Shell) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this machine has no /dev/full")
    shell.run("sessions", "create", "s-1")
    with full.open("wb") as output:
        done = subprocess.run(
            [COMMAND, f"--target={shell.target}", f"--app={shell.app}", "sessions", "list"],
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"sojourn: cannot write: No space left on device\n"


def test_on_a_terminal_the_default_is_a_table(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    ours, theirs = pty.openpty()
    command = [COMMAND, f"--target={shell.target}", f"--app={shell.app}", "sessions", "list"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "NO_COLOR": "1"}
    subprocess.run(command, stdout=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "SESSION" in shown
    assert "{" not in shown


def test_without_the_extra_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "from importlib import util; found = util.find_spec\n"
        "import sojourn.cli as cli\n"
        "cli.find_spec = lambda name: None if name == 'rich' else found(name)\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        'sojourn: the command line needs rich: install it with pip install "sojourn[cli]"\n'
    )


def test_a_short_command_does_not_load_what_it_does_not_need() -> None:
    code = (
        "import sys\n"
        "import sojourn.cli.root\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('rich', 'sojourn_server')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_and_version(shell: Shell) -> None:
    top = shell.run("--help").stdout
    for code in ExitCode:
        assert f"{int(code):<5}{code.sentence}" in top
    for command in ("sessions", "messages", "state", "replay"):
        assert f"  {command}" in top
        assert "--help" in shell.run(command, "--help").stdout
    assert shell.run("--version").stdout.startswith("sojourn, version 0.")
