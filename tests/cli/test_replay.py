"""`sojourn replay`: what is played comes back byte for byte, and what does not is found."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sojourn
from sojourn.cli.replay.measure import Measures, quantile
from tests.cli.kit import Shell
from tools import demo

ROOT = Path(__file__).resolve().parents[2]
AIRLINE = ROOT.parent / "shared" / "data" / "airline-sessions.jsonl"


def test_the_sample_comes_back_byte_for_byte(shell: Shell, sample: Path) -> None:
    report = shell.json("replay", str(sample), "--verify", "--agents", "4")
    assert (report["sessions"], report["messages"], report["requests"]) == (6, 78, 21)
    assert (report["played"], report["errors"], report["failures"]) == (6, 0, [])
    verified = report["verified"]
    assert (verified["sessions"], verified["messages"], verified["mismatches"]) == (6, 78, [])
    rpcs = {one["method"]: one for one in report["rpcs"]}
    assert rpcs["BeginTurn"]["calls"] == rpcs["EndTurn"]["calls"] == 21
    assert all(one["p99_ms"] >= one["p50_ms"] > 0 for one in report["rpcs"])


def test_what_was_played_can_be_read_by_anybody(shell: Shell, sample: Path) -> None:
    """Not the replay's own check: the file, read here, against the command line's JSON."""
    shell.run("replay", str(sample))
    for line in sample.read_bytes().splitlines():
        record = json.loads(line)
        name = (record["session_id"], "--user", record["user"])
        session = shell.json("sessions", "get", *name)
        assert session["status"] == record["outcome"].upper()
        assert session["labels"] == {"source": sample.name, "outcome": record["outcome"]}
        assert session["metrics"]["request_count"] == sum(
            one["role"] == "user" for one in record["messages"]
        )
        found = shell.lines("messages", "list", *name)
        assert [json.loads(one["payload_text"]) for one in found] == record["messages"]
        assert all(one["payload_text"].encode() in line for one in found)
        assert [(one["role"], one["content"]) for one in found] == [
            (one["role"], one["content"]) for one in record["messages"]
        ]


def test_the_summary_for_people_names_the_figures(shell: Shell, sample: Path) -> None:
    table = shell.table("replay", str(sample), "--verify", "--limit", "2")
    assert "all equal, byte for byte" in table
    assert "P99 MS" in table
    assert "AppendMessages" in table


def test_a_message_that_was_tampered_with_is_found(
    shell: Shell, sample: Path, tmp_path: Path
) -> None:
    shell.run("replay", str(sample))
    tampered = tmp_path / sample.name
    original = sample.read_text(encoding="utf-8")
    # One blank inside one recorded message: equal as JSON, not equal as bytes.
    assert original.count('{"card": "L-20418"}'.replace('"', '\\"')) == 1
    tampered.write_text(
        original.replace('{\\"card\\": \\"L-20418\\"}', '{\\"card\\":  \\"L-20418\\"}'), "utf-8"
    )
    done = shell.run("replay", str(tampered), "--verify-only", status=4)
    assert done.stderr == ("sojourn: 1 difference(s) between the file and what was read back\n")
    report = json.loads(done.stdout)
    assert report["played"] is None
    assert report["verified"]["mismatches"] == ["desk-0001: message 5: the payload differs"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda one: one["messages"].pop(), "messages came back instead of"),
        (lambda one: one["messages"].reverse(), "message 1: the role differs"),
        (lambda one: one.update(outcome="failed"), "its status is"),
        (lambda one: one.update(more=1), "its metadata is"),
        (lambda one: one.update(user="somebody else"), "SESSION_NOT_FOUND"),
        (lambda one: one["messages"][1].update(content=None), "the content differs"),
    ],
)
def test_any_difference_is_found(
    shell: Shell, sample: Path, tmp_path: Path, damage, said: str
) -> None:
    shell.run("replay", str(sample), "--limit", "1")
    record = json.loads(sample.read_bytes().splitlines()[0])
    damage(record)
    file = tmp_path / sample.name
    file.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    done = shell.run("replay", str(file), "--verify-only", "--delete", status=4)
    assert json.loads(done.stdout)["deleted"] is None
    assert len(shell.lines("sessions", "list", "--all")) == 1
    assert any(said in text for text in json.loads(done.stdout)["verified"]["mismatches"])


def test_a_history_that_was_changed_in_the_store_is_found(
    shell: Shell, sample: Path, tmp_path: Path
) -> None:
    shell.run("replay", str(sample), "--limit", "1")
    shell.run("sessions", "delete", "desk-0001", "--user", "mara.l")
    labels = ("-l", f"source={sample.name}", "-l", "outcome=completed")
    shell.run("sessions", "create", "desk-0001", "--user", "mara.l", *labels)
    for _ in range(3):
        shell.run("messages", "append", "desk-0001", "--user", "mara.l", "not what was said")
    shell.run("sessions", "end", "desk-0001", "--user", "mara.l", "--reason", "replayed")
    done = shell.run("replay", str(sample), "--verify-only", "--limit", "1", status=4)
    assert "message 1: the payload differs" in done.stdout


def test_playing_twice_is_refused_unless_it_is_to_replace(shell: Shell, sample: Path) -> None:
    shell.run("replay", str(sample))
    done = shell.run("replay", str(sample), status=1)
    report = json.loads(done.stdout)
    assert report["played"] == 0
    assert [text[:9] for text in report["failures"]] == [f"desk-000{n}" for n in range(1, 7)]
    assert all("SESSION_EXISTS" in text for text in report["failures"])
    assert "6 session(s) could not be played" in done.stderr
    shell.run("replay", str(sample), "--replace", "--verify")


def test_delete_cleans_up(shell: Shell, sample: Path) -> None:
    report = shell.json("replay", str(sample), "--verify", "--delete")
    assert report["deleted"] == 6
    assert shell.lines("sessions", "list", "--all") == []


def test_awkward_recordings_come_back_too(shell: Shell, tmp_path: Path) -> None:
    messages = [
        '{"role": "system"}',
        '{"role":"user","content":[{"type":"text","text":"parts"}]}',
        '{"role":"user","content":"\\u00e9\\ud83d\\ude00","n":1.00,"e":1E400,"twice":1,"twice":2}',
        '{"role":"user","content":"nul \\u0000 and half \\ud83d"}',
        '{ "content" : null ,\t"role" : "user" }',
        json.dumps({"role": "tool", "content": "x" * 600_000}),
    ]
    extra = '"tags": [1.50, {"b": 2, "a": 1}]'
    line = f'{{"session_id": "s-1", {extra}, "messages": [{", ".join(messages)}]}}'
    file = tmp_path / "awkward.jsonl"
    file.write_text(line + '\r\n\n{"session_id": "s-2", "messages": []}', encoding="utf-8")
    report = shell.json("replay", str(file), "--verify")
    assert (report["messages"], report["requests"]) == (6, 4)
    stored = shell.lines("messages", "list", "s-1")
    assert [one["payload_text"] for one in stored] == messages
    assert [one["content"] for one in stored] == [None, None, "é😀", None, None, None]
    assert (
        '"metadata": {"tags": [1.50, {"b": 2, "a": 1}]}'
        in shell.run("sessions", "get", "s-1").stdout
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: expecting property name"),
        ("[]", "line 2: it must be an object"),
        ('{"messages": []}', "line 2: session_id is missing"),
        ('{"session_id": "x"}', "line 2: messages is missing"),
        ('{"session_id": 1, "messages": []}', "line 2: session_id must be a text"),
        ('{"session_id": "x", "messages": {}}', "line 2: messages: it must be an array"),
        ('{"session_id": "x", "messages": ["hi"]}', "line 2: messages[0] must be an object"),
        ('{"session_id": "x", "messages": [{}]}', "line 2: messages[0] must be an object"),
        ('{"session_id": "x", "messages": [], "outcome": "so-so"}', "not 'so-so'"),
        ('{"session_id": "good", "messages": []}', "line 2: the session 'good' is there twice"),
    ],
)
def test_a_wrong_recording_is_named_before_anything_is_played(
    shell: Shell, tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text('{"session_id": "good", "messages": []}\n' + line, encoding="utf-8")
    assert said in shell.refusal("replay", str(file), status=2)
    assert shell.lines("sessions", "list", "--all") == []


def test_a_file_without_sessions_is_a_mistake(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_bytes(b"\n\n")
    assert "no recorded session" in shell.refusal("replay", str(file), status=2)
    file.write_bytes(b"\xff")
    assert "line 1 is not UTF-8" in shell.refusal("replay", str(file), status=2)


def test_nobody_there_ends_it_at_once(shell: Shell, sample: Path) -> None:
    said = shell.refusal("replay", str(sample), "--target=127.0.0.1:1", status=3)
    assert said == "sojourn: UNAVAILABLE: no server answers at 127.0.0.1:1\n"


def test_ctrl_c_ends_the_sessions_it_began(shell: Shell, tmp_path: Path) -> None:
    one = {"messages": [{"role": "user", "content": str(n)} for n in range(200)]}
    lines = [json.dumps({"session_id": f"s-{n}"} | one) for n in range(40)]
    file = tmp_path / "long.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    command = [shutil.which("sojourn", path=str(Path(sys.executable).parent)) or "sojourn"]
    options = [f"--target={shell.target}", f"--app={shell.app}"]
    with subprocess.Popen(
        [*command, "replay", str(file), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            # All eight agents are at work: none is in the middle of creating a session.
            if sum(one["message_count"] > 0 for one in shell.lines("sessions", "list")) == 8:
                break
            time.sleep(0.05)
        process.send_signal(2)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"sojourn: interrupted\n")
    began = shell.lines("sessions", "list", "--all")
    assert {one["status"] for one in began} == {"FAILED"}


def test_real_recordings_come_back_byte_for_byte(shell: Shell) -> None:
    if not AIRLINE.exists():
        pytest.skip(f"the recordings are not at {AIRLINE.relative_to(ROOT.parent)}")
    report = shell.json("replay", str(AIRLINE), "--verify", "--agents", "16")
    assert (report["sessions"], report["messages"], report["requests"]) == (100, 2658, 757)
    assert (report["played"], report["errors"]) == (100, 0)
    verified = report["verified"]
    assert (verified["sessions"], verified["messages"], verified["mismatches"]) == (100, 2658, [])
    ended = shell.lines("sessions", "list", "--all")
    assert sum(one["status"] == "FAILED" for one in ended) == 57
    assert sum(one["status"] == "COMPLETED" for one in ended) == 43


def test_the_demo_plays_its_sample_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {"TMPDIR": str(tmp_path), "PATH": "", "SOJOURN_STORE": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything came back, byte for byte." in done.stdout
    assert "It saw every change of the run once" in done.stdout
    assert "ended with status 0" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_demo_fails_when_the_replay_does(tmp_path: Path, capfd) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text("{", encoding="utf-8")
    assert demo.main([str(file)]) == 2
    assert demo.main([str(tmp_path / "absent")]) == 2
    assert "The demo failed." in capfd.readouterr().out


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)) == (50, 99, 100)
    assert quantile([7.0], 0.5) == quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.5) is None


def test_failed_calls_are_counted_by_their_method() -> None:
    measures = Measures()
    with measures.call("GetSession"):
        pass
    with pytest.raises(sojourn.SojournError), measures.call("block"):
        raise sojourn.errors.SessionNotFoundError("no", method="GetSession")
    [line] = measures.lines()
    assert (line.method, line.calls, line.errors) == ("GetSession", 2, 1)
    assert measures.error_count == 1
