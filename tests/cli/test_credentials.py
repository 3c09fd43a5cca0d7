"""Who calls, said to a command: once, from a safe place, and to nobody who could listen."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.api.scripted import Script, reasoned, scripted_server
from tests.cli.kit import Shell


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """A server that shows what it was sent."""
    with scripted_server() as script:
        yield script


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "word"
    path.write_text("from-file\n", encoding="ascii")
    return path


def said_to(script: Script, *arguments: str) -> str | bytes | None:
    """Run a command, and return what the server was told about its caller."""
    script.seen.clear()
    Shell(script.target, "a").run(*arguments, "sessions", "list")
    return script.seen[0].metadata.get("authorization")


def test_a_key_or_token_comes_from_an_option_a_file_or_a_variable(
    script: Script, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said_to(script) is None
    assert said_to(script, "--api-key=k") == "Bearer k"
    for option in ("--api-key-file", "--token-file"):
        assert said_to(script, f"{option}={file}") == "Bearer from-file"
    for variable, value in (
        ("SOJOURN_API_KEY", "from-file"),
        ("SOJOURN_API_KEY_FILE", str(file)),
        ("SOJOURN_TOKEN_FILE", str(file)),
    ):
        with monkeypatch.context() as patched:
            patched.setenv(variable, value)
            assert said_to(script) == "Bearer from-file"


def test_two_answers_to_who_calls_are_one_too_many(
    script: Script, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = Shell(script.target, "a")
    monkeypatch.setenv("SOJOURN_API_KEY", "k")
    for option in ("--api-key-file", "--token-file"):
        said = shell.refusal(f"{option}={file}", "sessions", "list", status=2)
        assert "exclude each other" in said


def test_neither_a_key_nor_a_token_is_sent_unencrypted_to_another_machine(file: Path) -> None:
    shell = Shell("example.org:1", "a")
    for option, kind in (("--api-key-file", "An API key"), ("--token-file", "A token")):
        said = shell.refusal(f"{option}={file}", "sessions", "list", status=2)
        assert f"{kind} is not sent unencrypted to example.org:1: add --tls" in said


def test_a_file_without_a_word_is_a_mistake_in_the_command(script: Script, file: Path) -> None:
    file.write_text("two words\n", encoding="ascii")
    shell = Shell(script.target, "a")
    for option in ("--api-key-file", "--token-file"):
        said = shell.refusal(f"{option}={file}", "sessions", "list", status=2)
        assert "holds none" in said
        assert "two words" not in said
        said = shell.refusal(f"{option}={file}.missing", "sessions", "list", status=2)
        assert "does not exist" in said


def test_whoever_says_nothing_is_told_how_to(script: Script) -> None:
    script.answers = [reasoned(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")]
    said = Shell(script.target, "a").refusal("sessions", "list")
    assert said == (
        "sojourn: CREDENTIAL_MISSING: as the test wants it; say who calls with --api-key-file, "
        "--token-file, or --tls-cert and --tls-key\n"
    )
