"""Documents: a JSON text per key."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain import documents
from sojourn_server.domain.commands import StatePatch
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import Limits
from sojourn_server.domain.model import Document

LIMITS = Limits()

GOOD = [
    *("null", "true", "false", "0", "-0", "1", "1.0", "1e5", "1E-7", '""', "[]", "{}"),
    *(' {"a" : [1, 2, {"b": null}] } ', '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', "\t\n\r 1"),
    "1" * 5_000,  # exact integers of any size: the text is kept, not the number
    "-" + "9" * 400 + "." + "9" * 400,
    '{"a": 1, "a": 2}',  # RFC 8259 only says SHOULD of unique names
    "[" * 100 + "]" * 100,
]
BAD = [
    *("", " ", "NaN", "Infinity", "-Infinity", "nan", "undefined", "None", "True", "tru", "nul"),
    *("01", "1.", ".5", "+1", "-", "1e", "0x10", "1_000", "1 2", "1,", "[1,]", '{"a":1,}'),
    *("{a:1}", "{1:2}", '{"a"}', "'a'", '"a', '"\n"', '"\x01"', '"\\x41"', '"\\u12g4"', "[", "]"),
    *("/* */ 1", "1 // one", "\ufeff1", "\u00a01", "\x0b1", '"\0"', '"\\u0000', "1\0"),
    '"\\ud800"',  # half a character: no UTF-8 text can hold it
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000,
    '"\ud800"',
]


@pytest.mark.parametrize("text", GOOD, ids=lambda text: text[:20])
def test_json_is_let_pass(text: str) -> None:
    documents.check_json("value", text)


@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:20]))
def test_what_is_not_json_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        documents.check_json("result", text)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.metadata == {"field": "result"}
    assert len(caught.value.message) < 100


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_whatever_a_json_writer_writes_is_let_pass(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    if "Infinity" not in text:
        documents.check_json("value", text)


def test_a_bad_value_is_found_and_its_key_named() -> None:
    with pytest.raises(Refusal) as caught:
        documents.check_document("metadata", {"good": "1", "bad": "NaN"})
    assert caught.value.violations[0].field == "metadata['bad']"


def test_a_document_is_stored_as_it_is_and_an_empty_one_as_no_bytes() -> None:
    for document in ({}, {"a": "1"}, {"": "é" * 1_000, "b": " 1.0 "}):
        assert documents.decode(documents.encode(document)) == document
    assert documents.encode({}) == b""


def patched(patch: StatePatch, old: Document, version: int = 4) -> documents.Patched:
    documents.check_patch("session", patch)
    return documents.apply_patch("session", version, old, patch, LIMITS)


def test_null_is_stored_as_null_and_removes_nothing() -> None:
    assert patched(StatePatch(set={"a": "null"}), {"a": "1"}).document == {"a": "null"}


def test_removal_is_explicit_and_passes_over_absent_keys() -> None:
    after = patched(StatePatch(remove=("a", "x")), {"a": "1", "b": "2"})
    assert after == documents.Patched({"b": "2"}, ("a",))


def test_replace_drops_all_other_keys() -> None:
    after = patched(StatePatch(set={"a": "9"}, replace=True), {"a": "1", "b": "2"})
    assert after == documents.Patched({"a": "9"}, ("a", "b"))
    assert patched(StatePatch(replace=True), {"a": "1"}) == documents.Patched({}, ("a",))


def test_a_patch_is_shallow_and_keeps_each_text_exactly() -> None:
    after = patched(StatePatch(set={"a": '{"y": 1.0}'}), {"a": '{"x": 1}'})
    assert after.document == {"a": '{"y": 1.0}'}


@pytest.mark.parametrize(
    "patch",
    [
        StatePatch(),
        StatePatch(set={"a": "1"}),
        StatePatch(remove=("b",)),
        StatePatch(set={"a": "1"}, replace=True),
    ],
)
def test_a_patch_without_an_effect_names_no_keys(patch: StatePatch) -> None:
    assert patched(patch, {"a": "1"}).keys == ()


def test_a_key_both_set_and_removed_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        documents.check_patch("user", StatePatch(set={"a": "1"}, remove=("b", "a")))
    assert caught.value.violations[0].field == "state.user.remove"


def test_an_expected_version_must_be_the_scopes_version() -> None:
    assert patched(StatePatch(set={"a": "1"}, expected_version=4), {}).keys == ("a",)
    assert patched(StatePatch(set={"a": "1"}, expected_version=0), {}, version=0).keys == ("a",)
    for expected, version in ((3, 4), (5, 4), (0, 4), (1, 0)):
        with pytest.raises(Refusal) as caught:
            patched(StatePatch(expected_version=expected), {}, version=version)
        assert caught.value.reason is Reason.STATE_VERSION_MISMATCH
        assert caught.value.metadata == {"scope": "session", "version": str(version)}


def test_a_scope_holds_so_many_keys_and_bytes_and_no_more() -> None:
    limits = Limits(state_keys=2, state_bytes=10)

    def apply(old: Document, **set_: str) -> documents.Patched:
        return documents.apply_patch("app", 0, old, StatePatch(set=set_), limits)

    assert apply({"a": "1"}, b="1234567").document == {"a": "1", "b": "1234567"}
    with pytest.raises(Refusal) as caught:
        apply({"a": "1"}, b="12345678")
    assert caught.value.reason is Reason.CONTENT_TOO_LARGE
    assert caught.value.metadata == {"field": "state.app", "limit_bytes": "10"}
    with pytest.raises(Refusal) as caught:
        apply({"a": "1", "b": "2"}, c="3")
    assert caught.value.reason is Reason.INVALID_FIELD


def test_a_patch_that_makes_room_may_write_as_much_again() -> None:
    limits = Limits(state_keys=1, state_bytes=8)
    patch = StatePatch(set={"b": "1234567"}, remove=("a",))
    assert documents.apply_patch("app", 0, {"a": "7654321"}, patch, limits).document == {
        "b": "1234567"
    }


def test_size_counts_bytes_and_not_characters() -> None:
    assert documents.size({"é": '"é"'}) == 2 + 4


keys = st.sampled_from(["a", "b", "c", "d"])
texts = st.sampled_from(["1", "2", "null"])
small = st.dictionaries(keys, texts)


@given(small, small, st.sets(keys), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_patch_does_what_a_dict_would(
    old: Document, written: Document, removed: set[str], replace: bool
) -> None:
    patch = StatePatch(set=written, remove=tuple(removed - written.keys()), replace=replace)
    expected = {} if replace else dict(old)
    expected.update(written)
    for key in patch.remove:
        expected.pop(key, None)
    after = patched(patch, old)
    assert after.document == expected
    assert after.keys == tuple(sorted(key for key in "abcd" if old.get(key) != expected.get(key)))
