"""The stored form of every value: fields are only ever appended.

The lists below are the format on disk. A line may be added at the end of a list;
nothing else about them may change.
"""

from __future__ import annotations

import enum
import inspect

import msgspec
import pytest

from sojourn_server.domain import model
from sojourn_server.domain.model import Session, Status
from sojourn_server.domain.tokens import PagePosition, ResumePoint, TurnClaim
from sojourn_server.service import answers, bulk, deleting, deleting_many, operations
from tests.unit.domain.values import START, a_session, a_turn

STORED: dict[type[msgspec.Struct], str] = {
    model.Metrics: "requests errors processing_time counters",
    model.Turn: "number holder begin_time lease_time lease",
    model.Owner: "turn_number lease lease_time",
    model.Lineage: "uid through_sequence",
    model.Session: (
        "uid app user session_id status labels create_time update_time activity_time end_time"
        " idle_timeout max_lifetime generation version parent_uid owner metrics message_count"
        " message_bytes last_sequence last_event_time turn turns_begun end_cause state_version"
        " metadata state end_note turn_error forked_from removed_ranges reset_time reset_reason"
        " history"
    ),
    model.EndNote: "reason result",
    model.MessageBody: "content payload metadata",
    model.Message: ("message_id sequence role content_type event_time create_time size body"),
    model.ScopeState: "version values",
    model.Erased: "sessions messages state_keys changes audit_entries",
    model.App: "app status create_time feed_id labels",
    model.ChangeDetail: (
        "deleted_why turn_outcome label_keys metadata_keys state_keys first_sequence"
        " last_sequence user state_version active_sessions drain_deadline"
        " alias parent_uid erased force"
    ),
    PagePosition: "request now value tie generation remaining",
    TurnClaim: "app uid number",
    ResumePoint: "feed_id revision nonce scope",
    answers.StateVersions: "session user app",
    answers.CreateOutcome: "session created",
    answers.CreateManyOutcome: "sessions",
    answers.AppOutcome: "app changed active sessions",
    answers.UpdateOutcome: "session changed versions",
    answers.TouchOutcome: "session",
    answers.EndOutcome: "session changed descendants",
    answers.ResetOutcome: "session messages state_keys metrics backup",
    answers.DeleteOutcome: "sessions messages",
    answers.BeginOutcome: "session turn created",
    answers.EndTurnOutcome: "session elapsed",
    answers.AppendOutcome: "session message_ids sequences changed created versions",
    answers.PopOutcome: "session messages changed session_pk",
    answers.TruncateOutcome: "session removed changed",
    answers.ForkOutcome: "session",
    answers.ReplaceOutcome: "session removed message_ids sequences changed",
    answers.StateOutcome: "version changed",
    bulk.BulkOutcome: "count keys",
    bulk.Progress: "user filter now top at keep kept_from status count keys",
    deleting.Deletion: "run phase sessions told told_time after",
    deleting.DeleteAppOutcome: "status sessions",
    deleting.Begun: "run forced",
    deleting_many.DeleteAppsOutcome: "apps refused more",
    deleting_many.Deletions: "names mode drain_timeout apps refused more",
    operations.Order: "key payload_hash actor patterns subject begin state",
}

ENUMS: dict[type[enum.IntEnum], str] = {
    model.Status: "ACTIVE COMPLETED FAILED EXPIRED",
    model.ExpireCause: "IDLE LIFETIME",
    model.EndCause: (
        "REQUEST IDLE LIFETIME PARENT_ENDED OWNER_ENDED OWNER_LOST THRESHOLD QUOTA APP"
    ),
    model.TurnOutcome: "OK ERROR ABANDONED STOLEN REVOKED",
    model.ChangeCause: (
        "CREATED UPDATED STATE_CHANGED MESSAGES_APPENDED MESSAGES_REMOVED TURN_BEGAN TURN_ENDED"
        " RESET ENDED EXPIRED DELETED THRESHOLD APP_CREATED APP_UPDATED APP_DRAINING APP_DELETED"
        " USER_ERASED"
    ),
    model.DeletedWhy: "REQUEST RETENTION REPLACED APP ERASED",
    model.AppStatus: "ACTIVE DRAINING DELETED",
}

# How many of the fields the first schema had without a default: a record is at least so long.
LEAST = {model.Session: 9, model.Message: 8, model.Turn: 5, model.App: 4, model.Lineage: 2}


@pytest.mark.parametrize(("struct", "fields"), STORED.items(), ids=lambda it: str(it)[:30])
def test_stored_fields_keep_their_order(struct: type[msgspec.Struct], fields: str) -> None:
    pinned = fields.split()
    assert list(struct.__struct_fields__)[: len(pinned)] == pinned
    assert struct.__struct_config__.array_like
    assert struct.__struct_config__.frozen


@pytest.mark.parametrize(("struct", "fields"), STORED.items(), ids=lambda it: str(it)[:30])
def test_fields_added_to_a_stored_value_have_a_default(
    struct: type[msgspec.Struct], fields: str
) -> None:
    pinned = set(fields.split())
    for field in msgspec.structs.fields(struct):
        assert field.name in pinned or not field.required, field.name


@pytest.mark.parametrize("numbers", ENUMS, ids=lambda it: it.__name__)
def test_stored_enums_keep_their_numbers(numbers: type[enum.IntEnum]) -> None:
    pinned = ENUMS[numbers].split()
    assert [(each.name, each.value) for each in numbers][: len(pinned)] == [
        (name, number) for number, name in enumerate(pinned, start=1)
    ]


def test_every_stored_value_and_enum_is_pinned_here() -> None:
    structs = {
        found
        for module in (model, answers)
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, msgspec.Struct)
        and found.__struct_config__.array_like
        and found.__module__ in (model.__name__, answers.__name__)
    }
    assert structs <= STORED.keys()
    enums = {
        found
        for _, found in inspect.getmembers(model, inspect.isclass)
        if issubclass(found, enum.IntEnum) and found is not enum.IntEnum
    }
    assert enums == ENUMS.keys()


@pytest.mark.parametrize("struct", LEAST, ids=lambda it: it.__name__)
def test_as_many_fields_as_ever_have_no_default(struct: type[msgspec.Struct]) -> None:
    required = sum(field.required for field in msgspec.structs.fields(struct))
    assert required == LEAST[struct]


def test_a_shorter_record_of_an_earlier_release_is_read_with_defaults() -> None:
    whole = a_session(labels={"a": "1"}, generation=4, turn=a_turn(), turns_begun=3)
    record = msgspec.msgpack.decode(msgspec.msgpack.encode(whole))
    for length in range(LEAST[Session], len(record) + 1):
        old = msgspec.msgpack.decode(msgspec.msgpack.encode(record[:length]), type=Session)
        for field in msgspec.structs.fields(Session)[:length]:
            assert getattr(old, field.name) == getattr(whole, field.name)
        for field in msgspec.structs.fields(Session)[length:]:
            assert getattr(old, field.name) == field.default, field.name
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(record[:8]), type=Session)


def test_a_longer_record_of_a_later_release_is_read_without_what_is_unknown() -> None:
    record = msgspec.msgpack.decode(msgspec.msgpack.encode(a_session()))
    later = msgspec.msgpack.encode([*record, "something new", 7])
    assert msgspec.msgpack.decode(later, type=Session) == a_session()


def test_a_session_is_active_until_it_has_ended() -> None:
    assert [a_session(status=status).is_active for status in Status] == [True, False, False, False]


def test_values_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        a_session().generation = 2  # type: ignore[misc]
    assert a_session().create_time == START
