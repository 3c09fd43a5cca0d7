"""Requests about many sessions, policies, and replacements of any length."""

import pytest

from sojourn import NewMessage, Policy, _app_calls, _bulk_calls
from sojourn.v1 import session_pb2

UID = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_one_thing_that_selects_is_enough_for_a_bulk_call() -> None:
    assert _bulk_calls.delete_sessions("a", {"user": ""}).HasField("user")
    assert _bulk_calls.delete_sessions("a", {"parent": UID}).filter.parent_uid == UID
    request = _bulk_calls.delete_sessions("a", {"status": "failed"})
    assert list(request.filter.statuses) == [session_pb2.SESSION_STATUS_FAILED]
    assert not request.all


def test_a_label_key_alone_groups_by_that_label() -> None:
    request = _bulk_calls.aggregate_sessions("a", {}, label_key="team")
    assert request == _bulk_calls.aggregate_sessions("a", {}, group_by="label", label_key="team")
    assert _bulk_calls.aggregate_sessions("a", {}).group_by == 0


def test_a_policy_says_only_what_was_said() -> None:
    sent = _app_calls.update_app("a", policy=Policy(max_active_sessions=0)).policy
    assert {field.name for field, _ in sent.ListFields()} == {
        "max_active_sessions",
        "session_quota_action",
        "overflow_action",
    }
    assert not _app_calls.update_app("a").HasField("policy")


@pytest.mark.parametrize(("count", "size", "parts"), [(0, 1, 1), (1000, 1, 1), (2001, 1, 3)])
def test_a_replacement_is_staged_when_one_request_does_not_hold_it(
    count: int, size: int, parts: int
) -> None:
    new = [NewMessage("user", "x" * size) for _ in range(count)]
    requests = _bulk_calls.replace_messages("a", "s", new, keep_through_sequence=7)
    assert sum(len(one.messages) for one in requests) == count
    assert [one.part for one in requests] == list(range(parts))
    assert [one.more_follow for one in requests] == [True] * (parts - 1) + [False]
    assert len({one.staging_id for one in requests}) == 1
    assert bool(requests[0].staging_id) == (parts > 1)
    assert len({one.request_id for one in requests}) == parts


def test_a_replacement_is_staged_by_its_bytes_too() -> None:
    new = [NewMessage("user", "x" * 1_000_000) for _ in range(7)]
    requests = _bulk_calls.replace_messages("a", "s", new, keep_through_sequence=0)
    assert [len(one.messages) for one in requests] == [3, 3, 1]
    assert all(one.ByteSize() < 4 * 1024 * 1024 for one in requests)


def test_a_repeated_replacement_has_the_same_ids_in_all_its_parts() -> None:
    new = [NewMessage("user")] * 1001

    def ids(request_id: str) -> list[tuple[str, str]]:
        requests = _bulk_calls.replace_messages(
            "a", "s", new, keep_through_sequence=0, request_id=request_id
        )
        return [(one.staging_id, one.request_id) for one in requests]

    assert ids("order-17") == ids("order-17")
    assert ids("order-17")[-1][1] == "order-17"
    assert not set(ids("order-17")) & set(ids("order-18"))
    assert [request_id for _, request_id in ids("")] == ["", ""]
