"""`sojourn messages …` and `sojourn state …`."""

import json

import pytest

from tests.cli.kit import Shell


@pytest.fixture
def session(shell: Shell) -> str:
    shell.run("sessions", "create", "s-1")
    return "s-1"


def test_append_takes_its_text_from_an_argument_a_file_or_stdin(
    shell: Shell, session: str, tmp_path
) -> None:
    file = tmp_path / "text"
    file.write_bytes("Grüße\r\n\tfrom a file\n".encode())
    shell.run("messages", "append", session, "an argument")
    shell.run("messages", "append", session, "--file", str(file), "--role", "assistant")
    shell.run("messages", "append", session, stdin="from stdin\n")
    shell.run("messages", "append", session, "--file", "-", stdin="from a dash")
    shell.run("messages", "append", session, "")
    found = shell.lines("messages", "list", session)
    assert [one["content"] for one in found] == [
        "an argument",
        "Grüße\r\n\tfrom a file\n",
        "from stdin\n",
        "from a dash",
        "",
    ]
    assert [one["role"] for one in found] == ["user", "assistant", "user", "user", "user"]
    assert [one["sequence"] for one in found] == [1, 2, 3, 4, 5]


def test_append_says_what_it_did(shell: Shell, session: str) -> None:
    done = shell.json("messages", "append", session, "x", "--message-id", "m-1")
    assert done["message_ids"] == ["m-1"]
    assert (done["sequences"], done["changed"], done["message_count"]) == ([1], True, 1)
    assert shell.json("messages", "append", session, "x", "--message-id", "m-1")["changed"] is False
    said = shell.refusal("messages", "append", session, "y", "--message-id", "m-1")
    assert said.startswith("sojourn: MESSAGE_EXISTS: ")
    assert shell.table("messages", "append", session, "z") == (
        "1 message(s) appended, up to sequence 2.\n"
    )


def test_append_by_uid_and_with_create(shell: Shell) -> None:
    done = shell.json("messages", "append", "new", "x", "--create", "--user", "u")
    assert done["created"] is True
    shell.run("messages", "append", "--uid", done["uid"], "y")
    found = shell.lines("messages", "list", "--uid", done["uid"])
    assert [one["content"] for one in found] == ["x", "y"]


def test_payloads_come_back_as_text_or_base64(shell: Shell, session: str, tmp_path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b'{"a": 1.00}')
    payload = ("--payload", str(file), "--content-type")
    shell.run("messages", "append", session, *payload, "application/json", "--metadata", '{"k": 1}')
    file.write_bytes(b"\x00\xff")
    shell.run("messages", "append", session, "with a text", *payload, "image/png")
    first, second = shell.lines("messages", "list", session)
    assert first["payload_text"] == '{"a": 1.00}'
    assert (first["content"], first["metadata"]) == (None, {"k": 1})
    assert (second["payload_base64"], second["content"]) == ("AP8=", "with a text")
    table = shell.table("messages", "list", session)
    assert '{"a": 1.00}' in table
    assert "with a text" in table


def test_json_lines_copy_a_history_exactly(shell: Shell, session: str) -> None:
    lines = [
        {"role": "user", "content": "ein Text\n👩🏽‍🚀 \u200fשלום", "message_id": "m-1"},
        {"role": "tool", "content": None, "payload_base64": "AP8=", "content_type": "image/png"},
        {"role": "tool", "content": "", "payload_text": "[1.0]", "content_type": "text/json"},
        {"role": "user", "event_time": "1999-12-31T23:59:59.123456789+02:00"},
    ]
    text = "\n\n".join(json.dumps(line) for line in lines)
    done = shell.json("messages", "append", session, "--json-lines", stdin=text)
    assert done["sequences"] == [1, 2, 3, 4]
    original = shell.run("messages", "list", session).stdout_bytes
    copied = shell.json("messages", "append", "copy", "--create", "--json-lines", stdin=original)
    assert copied["created"] is True
    copy = shell.lines("messages", "list", "copy")
    for one, other in zip(shell.lines("messages", "list", session), copy, strict=True):
        assert one | {"create_time": ""} == other | {"create_time": ""}
    assert copy[3]["event_time"] == "1999-12-31T21:59:59.123456789Z"


def test_many_lines_are_appended_in_batches(shell: Shell, session: str) -> None:
    text = "\n".join(json.dumps({"role": "user", "content": str(n)}) for n in range(1500))
    batches = shell.lines("messages", "append", session, "--json-lines", stdin=text)
    assert [len(one["sequences"]) for one in batches] == [1000, 500]
    found = shell.lines("messages", "list", session)
    assert [one["content"] for one in found] == [str(n) for n in range(1500)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"role": "user", "contents": "x"}', "no field 'contents'"),
        ('{"content": "x"}', "the role is missing"),
        ('{"role": 1}', "role must be a text"),
        ('{"role": "user"', "at character 16"),
        ('{"role": "user", "payload_text": "a", "payload_base64": "AA=="}', "exclude each other"),
        ('{"role": "user", "payload_base64": "?"}', "not base64"),
        ('{"role": "user", "event_time": "yesterday"}', "no time such as"),
        ('{"role": "user", "metadata": []}', "must be an object"),
        ("[]", "must be an object"),
        (b'{"role": "\xff"}', "not UTF-8"),
        ("\n", "no message"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_appended(
    shell: Shell, session: str, line: str | bytes, said: str
) -> None:
    good = b'{"role": "user", "content": "good"}\n'
    data = line if isinstance(line, bytes) else line.encode()
    data = data if data == b"\n" else good + data
    done = shell.run("messages", "append", session, "--json-lines", stdin=data, status=2)
    assert said in done.stderr
    assert data == b"\n" or "Line 2" in done.stderr
    assert shell.lines("messages", "list", session) == []


def test_list_takes_windows_of_the_history(shell: Shell, session: str) -> None:
    for number in range(1, 7):
        shell.run("messages", "append", session, str(number))

    def listed(*options: str) -> str:
        return "".join(one["content"] for one in shell.lines("messages", "list", session, *options))

    assert listed() == "123456"
    assert listed("--last", "2") == "56"
    assert listed("--after", "2", "--before", "5") == "34"
    assert listed("--newest-first", "--limit", "3") == "654"
    assert listed("--last", "0") == ""


def test_a_table_cuts_long_messages_unless_it_is_to_show_all(shell: Shell, session: str) -> None:
    shell.run("messages", "append", session, "word " * 100)
    cut = " ".join(shell.table("messages", "list", session).split())
    assert "… (+339 characters)" in cut
    assert shell.table("messages", "list", session, "--full").count("word") == 100
    empty = shell.run("messages", "list", session, "--after", "9", "--output", "table")
    assert (empty.stdout, empty.stderr) == ("", "No message matches.\n")


def test_get_finds_a_message_by_id_or_sequence(shell: Shell, session: str) -> None:
    shell.run("messages", "append", session, "x", "--message-id", "m-1")
    by_id = shell.json("messages", "get", session, "--id", "m-1")
    assert by_id == shell.json("messages", "get", session, "--sequence", "1")
    assert "MESSAGE_NOT_FOUND" in shell.refusal("messages", "get", session, "--sequence", "2")
    assert "x" in shell.table("messages", "get", session, "--id", "m-1")
    assert "--id or with --sequence" in shell.refusal("messages", "get", session, status=2)


def test_pop_prints_what_it_removed(shell: Shell, session: str) -> None:
    for text in ("a", "b", "c"):
        shell.run("messages", "append", session, text)
    popped = shell.lines("messages", "pop", session, "--count", "2")
    assert [one["content"] for one in popped] == ["b", "c"]
    assert "a" in shell.table("messages", "pop", session)
    assert shell.lines("messages", "pop", session) == []


def test_truncate_keeps_what_it_is_told_to(shell: Shell, session: str) -> None:
    for text in ("a", "b", "c"):
        shell.run("messages", "append", session, text)
    done = shell.json("messages", "truncate", session, "--keep-through", "1")
    assert (done["messages_removed"], done["message_count"]) == (2, 1)
    assert shell.table("messages", "truncate", session, "--keep-through", "0") == (
        "1 message(s) removed, 0 kept.\n"
    )


def test_state_of_an_app_and_of_a_user(shell: Shell) -> None:
    done = shell.json("state", "update", 'language="de"', "visits=3", "price=1.00")
    assert (done["version"], done["changed"], done["user"]) == (1, True, None)
    line = shell.run("state", "get").stdout
    assert '"values": {"language": "de", "price": 1.00, "visits": 3}' in line
    shell.run("state", "update", "--user", "u-1", "--values", '{"a": 1, "b": null}')
    shell.run("state", "update", "--user", "u-1", "--remove", "a", "--expected-version", "1")
    found = shell.json("state", "get", "--user", "u-1")
    assert (found["version"], found["values"]) == (2, {"b": None})
    assert "language" in shell.table("state", "get")
    assert shell.table("state", "update", "visits=3") == "The state has version 1, as before.\n"
    shell.run("state", "update", "--replace", "only=1")
    assert shell.json("state", "get")["values"] == {"only": 1}


def test_state_is_not_written_over_another_version(shell: Shell) -> None:
    shell.run("state", "update", "a=1")
    said = shell.refusal("state", "update", "a=2", "--expected-version", "0")
    assert said.startswith("sojourn: STATE_VERSION_MISMATCH: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a=x"], "is no JSON value"),
        (["a"], "key=value"),
        (["a=1", "a=2"], "twice"),
        ([], "Nothing to do"),
    ],
)
def test_state_wants_json(shell: Shell, arguments: list[str], said: str) -> None:
    assert said in shell.refusal("state", "update", *arguments, status=2)
