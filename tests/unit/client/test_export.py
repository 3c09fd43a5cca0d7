"""An export as JSON Lines: nothing is lost, and what is no whole export is told so."""

import io
import json
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sojourn import _export
from sojourn._files import reading, writing
from sojourn.errors import ExportFormatError
from sojourn.v1 import admin_service_pb2, app_pb2, message_pb2, session_pb2

Part = admin_service_pb2.ExportSessionsResponse
UID = "01890a5d-ac96-774b-bcce-b302099a8057"


def messages(*texts: str) -> Part:
    made = [
        message_pb2.Message(
            message_id=f"m-{number}",
            sequence=number,
            role="user",
            content=text,
            payload=b"\x00\xff",
            metadata={"b": "1.00", "a": '"\\u0000"'},
            event_time=Timestamp(seconds=1, nanos=1),
        )
        for number, text in enumerate(texts, start=1)
    ]
    return Part(messages=admin_service_pb2.ExportedMessages(messages=made))


def session(session_id: str = "s") -> Part:
    made = session_pb2.Session(
        key=session_pb2.SessionKey(app="a", user="u", session_id=session_id),
        uid=UID,
        labels={"z": "1", "a": "2"},
        state=session_pb2.StateScopes(
            session=session_pb2.State(values={"n": "1.0", "big": "1" * 30}, version=2**62)
        ),
        message_count=2,
    )
    return Part(session=admin_service_pb2.ExportedSession(session=made, version=7))


PARTS = [
    Part(app=admin_service_pb2.ExportedApp(app="a", policy=app_pb2.Policy(auto_create=False))),
    Part(user=admin_service_pb2.ExportedUser(user="u", state=session_pb2.State(version=1))),
    session(),
    messages("one\n\u2028two", ""),
    session("t"),
]


def written(parts: list[Part]) -> bytes:
    writer = _export.Writer()
    lines = [line for part in parts for line in writer.lines(part)]
    return b"".join([*lines, writer.last_line()])


def read(data: bytes, *, partial: bool = False) -> list[admin_service_pb2.ImportSessionsRequest]:
    return list(_export.read(io.BytesIO(data), partial=partial))


def test_what_was_written_is_read_again() -> None:
    parts = read(written(PARTS))
    assert [one.SerializeToString(deterministic=True) for one in parts] == [
        one.SerializeToString(deterministic=True) for one in PARTS
    ]


def test_each_message_has_a_line_and_the_last_line_counts() -> None:
    lines = written(PARTS).splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == [
        "app",
        "user",
        "session",
        "messages",
        "messages",
        "session",
        "end",
    ]
    assert json.loads(lines[-1]) == {"end": {"sessions": 2, "messages": 2}}


def test_how_the_server_cut_its_parts_makes_no_difference() -> None:
    whole = [session(), messages("a", "b", "c")]
    cut = [session(), *(Part(messages=one.messages) for one in (messages("a", "b", "c"),))]
    single = [
        session(),
        *(
            Part(messages=admin_service_pb2.ExportedMessages(messages=[one]))
            for one in messages("a", "b", "c").messages.messages
        ),
    ]
    assert written(whole) == written(cut) == written(single)


def test_a_session_that_was_dropped_is_not_counted() -> None:
    data = written([session(), messages("a", "b"), Part(dropped=UID), session("t"), messages("c")])
    assert json.loads(data.splitlines()[-1]) == {"end": {"sessions": 1, "messages": 1}}
    assert [one.dropped for one in read(data) if one.HasField("dropped")] == [UID]


def test_messages_go_together_as_far_as_a_part_holds_them() -> None:
    small = read(written([session(), messages(*["x"] * 2500)]))
    assert [len(one.messages.messages) for one in small] == [0, 1000, 1000, 500]
    large = read(written([session(), messages(*["x" * 600_000] * 3)]))
    assert [len(one.messages.messages) for one in large] == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not whole"),
        (b"no json\n", "line 1: no JSON"),
        (b"[1]\n", "line 1: this is no part"),
        (b'{"target":{"app":"a"}}\n', "line 1: this is no part"),
        (b'{"session":{},"app":{}}\n', "line 1: this is no part"),
        (b'{"session":5}\n', "line 1"),
        (b'{"session":{"colour":"red"}}\n', "line 1.*colour"),
        (b"\n" + written(PARTS) + b'{"dropped":"x"}\n', "line 9: there is more"),
        (b"\xff\xfe\n", "line 1"),
    ],
)
def test_what_is_no_export_is_told_by_its_line(data: bytes, said: str) -> None:
    with pytest.raises(ExportFormatError, match=said):
        read(data)


def test_every_torso_is_noticed_unless_it_may_be_one() -> None:
    lines = written(PARTS).splitlines(keepends=True)
    for count in range(len(lines)):
        torso = b"".join(lines[:count])
        with pytest.raises(ExportFormatError, match="not whole"):
            read(torso)
        with pytest.raises(ExportFormatError, match="not whole"):
            _export.refuse_a_torso(io.BytesIO(torso))
        assert len(read(torso, partial=True)) <= len(PARTS)
    whole = io.BytesIO(b"".join(lines) + b"\n")
    _export.refuse_a_torso(whole)
    assert whole.tell() == 0


def test_a_file_appears_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"the old one")

    def half() -> None:
        with writing(path) as file:
            file.write(b"half of it")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        half()
    assert path.read_bytes() == b"the old one"
    assert [one.name for one in tmp_path.iterdir()] == ["export.jsonl"]
    with writing(str(path)) as file:
        file.write(b"the new one")
    with reading(path) as file:
        assert file.read() == b"the new one"


def test_a_file_that_was_open_stays_open() -> None:
    file = io.BytesIO()
    with writing(file) as same:
        assert same is file
    with reading(file):
        pass
    assert not file.closed
