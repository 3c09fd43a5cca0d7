"""JSON values come back exactly as they went."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn import JsonMap, RawJson
from sojourn._json import decode, encode, encode_map
from sojourn.errors import ArgumentTypeError, InvalidFieldError, JsonValueError

texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=20,
)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down: 1 is not 1.0 and not True."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(json_values)
def test_every_json_value_comes_back_with_its_types(value: Any) -> None:
    text = encode(value, "state")
    text.encode()  # it can be sent
    assert same(decode(text), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1.0"),
        (2**80, "1208925819614629174706176"),
        (None, "null"),
        (True, "true"),
        ("ä€😀", '"ä€😀"'),
        ("\x00", '"\\u0000"'),
        ({"b": 1, "a": [1, 1.0]}, '{"b":1,"a":[1,1.0]}'),
        ((1, 2), "[1,2]"),
        (RawJson("1.00"), "1.00"),
    ],
)
def test_a_value_becomes_this_text(value: Any, text: str) -> None:
    assert encode(value, "state") == text


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [float("-inf")], 10**5000, "\ud83d", {"\ud83d": 1}],
    ids=["nan", "infinity", "nested", "5000 digits", "half a surrogate", "half as key"],
)
def test_a_value_that_json_cannot_hold_is_an_invalid_field(value: Any) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        encode(value, "state['x']")
    assert caught.value.field_violations[0].field == "state['x']"


def test_a_value_without_end_is_an_invalid_field() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidFieldError):
        encode(value, "state")


@pytest.mark.parametrize("value", [object(), {1: "a"}, [{None: 1}], b"x", {1, 2}, RawJson(5)])  # type: ignore[arg-type]
def test_a_value_of_a_type_that_json_does_not_know_is_a_type_error(value: Any) -> None:
    with pytest.raises(ArgumentTypeError):
        encode(value, "state")


def test_a_map_needs_str_keys_and_must_be_a_map() -> None:
    with pytest.raises(ArgumentTypeError):
        encode_map({1: "a"}, "state")  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        encode_map([("a", 1)], "state")  # type: ignore[arg-type]


def test_a_map_that_was_read_is_written_letter_by_letter() -> None:
    read = JsonMap({"a": "1.00", "b": '"\\u00e4"'})
    assert encode_map(read, "state") == {"a": "1.00", "b": '"\\u00e4"'}


def test_a_json_map_decodes_at_each_access_and_hands_out_fresh_values() -> None:
    read = JsonMap({"a": "[1]", "b": "null"})
    read["a"].append(2)
    assert read["a"] == [1]
    assert read == {"a": [1], "b": None}
    assert "b" in read
    assert read.get("missing") is None
    assert list(read) == ["a", "b"]
    assert read.json == {"a": "[1]", "b": "null"}
    assert "JsonMap" in repr(read)


def test_none_and_missing_are_two_things() -> None:
    read = JsonMap({"a": "null"})
    assert read["a"] is None
    with pytest.raises(KeyError):
        read["b"]


def test_a_json_map_can_be_pickled() -> None:
    read = JsonMap({"a": "1.0"})
    assert pickle.loads(pickle.dumps(read)) == read


@pytest.mark.parametrize(
    "text", ["9" * 5000, "[" * 100_000, "{"], ids=["5000 digits", "too deep", "not JSON"]
)
def test_a_text_that_python_cannot_hold_is_our_error_and_a_value_error(text: str) -> None:
    read = JsonMap({"a": text})
    with pytest.raises(JsonValueError):
        read["a"]
    with pytest.raises(ValueError, match="JSON"):
        read["a"]
    assert read.json["a"] == text


@given(st.dictionaries(st.text(), st.integers()))
def test_a_map_of_texts_is_json(values: dict[str, int]) -> None:
    assert {key: json.loads(text) for key, text in encode_map(values, "x").items()} == values
