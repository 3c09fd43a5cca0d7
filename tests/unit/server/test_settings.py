"""The one table of settings, and all that is made from it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.domain.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from sojourn_server.domain.limits import Limits
from sojourn_server.settings import (
    Address,
    Settings,
    SettingsError,
    format_length,
    is_loopback,
    parse_length,
    reach,
    reference,
    split_address,
    table,
)


def test_every_field_is_a_line_of_the_table_with_a_sentence():
    lines = table()
    assert [line.name for line in lines] == [each.name for each in fields(Settings)]
    for line in lines:
        assert line.sentence.endswith(".")
        assert line.sentence[0].isupper()


def test_every_setting_is_in_the_reference_with_flag_variable_and_default():
    text = reference()
    for line in table():
        assert f"| `{line.flag}` | `{line.variable}` |" in text
        assert line.default_text in text


def test_the_defaults_are_the_contract_s():
    settings = Settings()
    assert settings.listen == "127.0.0.1:7070"
    assert settings.store == "sqlite:///sojourn.db"
    assert settings.sqlite_path == Path("sojourn.db")
    assert settings.default_idle_timeout == HOUR
    assert settings.default_max_lifetime == 0
    assert settings.request_keeping == DAY
    assert settings.sqlite_synchronous == "FULL"
    assert settings.limits == Limits()


def test_settings_for_a_test_are_two():
    settings = Settings(listen="127.0.0.1:0", store="sqlite:////tmp/x.db")
    assert settings.sqlite_path == Path("/tmp/x.db")


@pytest.mark.parametrize(
    "values",
    [
        {"store": "mysql://x"},
        {"store": "sqlite:///"},
        {"store": "sqlite:///a?mode=ro"},
        {"store": "sojourn.db"},
        {"listen": "7070"},
        {"listen": ":7070"},
        {"listen": "localhost"},
        {"listen": "localhost:x"},
        {"listen": "localhost:65536"},
        {"listen": "localhost:-1"},
        {"listen": "::1:7070"},
        {"listen": "[localhost]:7070"},
        {"listen": "0.0.0.0:7070"},
        {"listen": "[::]:7070"},
        {"listen": "example.org:7070"},
        {"listen": "192.168.1.2:0"},
        {"metrics_listen": "9464"},
        {"metrics_listen": "0.0.0.0:9464"},
        {"metrics_listen": "0.0.0.0:9464", "tls_cert": Path("c"), "tls_key": Path("k")},
        {"tls_cert": Path("c")},
        {"tls_key": Path("k")},
        {"tls_client_ca": Path("ca")},
        {"grants_file": Path("g")},
        {"listen": "0.0.0.0:7070", "tls_cert": Path("c"), "tls_key": Path("k")},
        {"listen": "0.0.0.0:7070", "keys_file": Path("k")},
        {"log_level": "loud"},
        {"log_format": "xml"},
        {"loop": "trio"},
        {"sqlite_synchronous": "SOMETIMES"},
        {"max_request_bytes": 4 * 2**20 + 1},
        {"max_request_bytes": 0},
        {"max_labels": 65},
        {"request_keeping": HOUR},
        {"expiry_interval": 2 * SECOND},
        {"drain_timeout": -1},
        {"default_idle_timeout": 4_000 * DAY},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_a_sentence(values: dict[str, Any]):
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "values",
    [
        {"listen": "0.0.0.0:7070", "insecure": True},
        {
            "listen": "0.0.0.0:7070",
            "tls_cert": Path("c"),
            "tls_key": Path("k"),
            "keys_file": Path("k"),
        },
        {
            "listen": "0.0.0.0:7070",
            "tls_cert": Path("c"),
            "tls_key": Path("k"),
            "tls_client_ca": Path("ca"),
        },
        {"listen": "0.0.0.0:7070", "keys_file": Path("k"), "insecure": True},
        {"metrics_listen": "0.0.0.0:9464", "insecure": True},
        {"metrics_listen": "[::1]:0"},
        {"listen": "localhost:0"},
        {"listen": "127.8.9.1:7070"},
        {"listen": "[::1]:7070"},
    ],
    ids=str,
)
def test_what_is_safe_is_taken(values: dict[str, Any]):
    Settings(**values)


def test_a_bad_address_is_blamed_on_its_setting():
    with pytest.raises(SettingsError, match="metrics_listen must be host:port"):
        Settings(metrics_listen="9464")


def test_limits_may_be_lowered():
    limits = Settings(max_message_bytes=1_000, max_labels=3).limits
    assert (limits.message_bytes, limits.labels) == (1_000, 3)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("0s", 0),
        ("250ms", 250 * MILLISECOND),
        ("90s", 90 * SECOND),
        ("15m", 15 * MINUTE),
        ("1h30m", HOUR + 30 * MINUTE),
        ("7d", 7 * DAY),
        (" 1h ", HOUR),
    ],
)
def test_a_length_of_time_is_read(text: str, nanos: int):
    assert parse_length(text) == nanos


@pytest.mark.parametrize("text", ["", "1", "-1s", "1.5h", "1 h", "h", "1w", "s1", "1h-", "٣s"])
def test_what_is_no_length_of_time_is_refused(text: str):
    with pytest.raises(SettingsError):
        parse_length(text)


@given(st.integers(0, 4_000 * DAY // MILLISECOND))
def test_a_length_that_was_written_is_read_again(milliseconds: int):
    assert parse_length(format_length(milliseconds * MILLISECOND)) == milliseconds * MILLISECOND


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("localhost:0", Address("localhost", 0)),
        ("127.0.0.1:7070", Address("127.0.0.1", 7070)),
        ("[::1]:7070", Address("::1", 7070)),
    ],
)
def test_an_address_is_split_and_written_again(listen: str, address: Address):
    assert split_address(listen) == address
    assert str(address) == listen


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("0.0.0.0:7070", "127.0.0.1:7070"),
        ("[::]:7070", "[::1]:7070"),
        ("localhost:7070", "localhost:7070"),
        ("10.0.0.1:7070", "10.0.0.1:7070"),
    ],
)
def test_a_wildcard_is_reached_by_the_loopback(listen: str, target: str):
    assert reach(listen) == target


def test_a_name_is_not_trusted_to_be_the_loopback():
    assert is_loopback("localhost:1")
    assert not is_loopback("my-host:1")
