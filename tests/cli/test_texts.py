"""JSON taken apart letter by letter, and times and durations as texts."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.cli import rawjson
from sojourn.cli.encode import Raw, dumps
from sojourn.cli.times import (
    format_duration,
    format_ns,
    format_time,
    parse_duration,
    parse_ns,
    seconds_of,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
BLANKS = st.text(alphabet=" \t\r\n", max_size=3)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), VALUES), BLANKS, st.booleans())
def test_members_are_cut_out_as_they_stand(value, blanks: str, escape: bool) -> None:
    texts = {key: json.dumps(one, ensure_ascii=escape) for key, one in value.items()}
    pairs = (
        f"{blanks}{json.dumps(key)}{blanks}:{blanks}{text}{blanks}" for key, text in texts.items()
    )
    assert rawjson.members(f"{blanks}{{{','.join(pairs) or blanks}}}{blanks}") == texts


@settings(max_examples=40)
@given(st.lists(VALUES), BLANKS)
def test_items_are_cut_out_as_they_stand(values, blanks: str) -> None:
    texts = [json.dumps(one, indent=1) for one in values]
    inside = ",".join(f"{blanks}{text}{blanks}" for text in texts)
    assert rawjson.items(f"{blanks}[{inside or blanks}]{blanks}") == texts


@settings(max_examples=60)
@given(VALUES)
def test_what_is_printed_is_json_on_one_line(value) -> None:
    line = dumps({"a": Raw(json.dumps(value, indent=2)), "b": [value, (value,)]})
    assert "\n" not in line
    assert "\r" not in line
    assert json.loads(line) == {"a": value, "b": [value, [value]]}


def test_numbers_keep_their_letters() -> None:
    assert rawjson.members('{"a": 1.00, "a": 1e400}') == {"a": "1e400"}
    assert dumps({"x": Raw("1.00")}) == '{"x": 1.00}'


@pytest.mark.parametrize(
    "text", ["", "{", "{}{}", "nul", '{"a": NaN}', "[" * 100_000, '{"a"}', '["a",]', "'a'"]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        rawjson.members(text)
    with pytest.raises(ValueError, match=r".+"):
        rawjson.items(text)


@given(st.integers(-9_214_560_000 * 10**9, 9_214_646_400 * 10**9 - 1))
def test_instants_keep_their_nanoseconds(instant: int) -> None:
    assert parse_ns(format_ns(instant)) == instant


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001z", 1),
        ("1970-01-01T02:00:00.5+02:00", 500_000_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
        (" 1970-01-01 00:00:01Z ", 10**9),
    ],
)
def test_instants_are_read_as_rfc_3339(text: str, wanted: int) -> None:
    assert parse_ns(text) == wanted


@pytest.mark.parametrize("text", ["", "now", "1970-01-01", "1970-01-01T00:00:00", "0Z", "١Z"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_ns(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("250ms", 0.25), ("1h30m", 5400), ("7d", 604_800), ("never", 0)],
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1 h", "h", "1w", "9" * 30 + "d", "m1"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration(text)


def test_times_and_durations_for_people_and_programs() -> None:
    assert format_time(datetime(2030, 5, 17, 9, 30, tzinfo=UTC)) == "2030-05-17T09:30:00.000000Z"
    assert format_duration(timedelta(milliseconds=1500)) == "1.5 s"
    assert format_duration(timedelta(days=1, seconds=3661)) == "1 d 1 h 1 min 1 s"
    assert seconds_of(timedelta(seconds=3)) == 3
    assert isinstance(seconds_of(timedelta(seconds=3)), int)
    assert seconds_of(timedelta(microseconds=1)) == 0.000001
