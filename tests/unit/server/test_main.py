"""The command's flags and variables are the table of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sojourn_server.app import version
from sojourn_server.command import command
from sojourn_server.domain.clock import MINUTE, SECOND
from sojourn_server.settings import Settings, table


def parsed(*flags: str) -> dict[str, Any]:
    """The settings that the command makes of flags and variables."""
    context = command().make_context(
        "sojourn-server", list(flags), auto_envvar_prefix="SOJOURN", resilient_parsing=False
    )
    return dict(context.params)


# One value for each setting, other than its default.
OTHER: dict[str, tuple[str, Any]] = {
    "listen": ("localhost:1", "localhost:1"),
    "store": ("sqlite:////x.db", "sqlite:////x.db"),
    "store_file": ("/s", Path("/s")),
    "port_file": ("/p", Path("/p")),
    "metrics_listen": ("localhost:2", "localhost:2"),
    "insecure": ("true", True),
    "tls_cert": ("/c", Path("/c")),
    "tls_key": ("/k", Path("/k")),
    "tls_client_ca": ("/a", Path("/a")),
    "keys_file": ("/a", Path("/a")),
    "grants_file": ("/a", Path("/a")),
    "jwt_issuer": ("https://issuer.example", "https://issuer.example"),
    "jwt_audience": ("sojourn", "sojourn"),
    "jwt_jwks": ("/a", "/a"),
    "jwt_algorithms": ("ES256", "ES256"),
    "jwt_groups_claim": ("teams", "teams"),
    "jwt_leeway": ("5s", 5 * SECOND),
    "jwt_refresh": ("1h", 60 * MINUTE),
    "default_idle_timeout": ("5m", 5 * MINUTE),
    "default_max_lifetime": ("5m", 5 * MINUTE),
    "default_retention": ("5m", 5 * MINUTE),
    "unknown_apps": ("false", False),
    "request_keeping": ("2d", 2_880 * MINUTE),
    "change_keeping": ("1d", 1_440 * MINUTE),
    "max_changes": ("5000", 5_000),
    "audit_keeping": ("2d", 2_880 * MINUTE),
    "max_request_bytes": ("10", 10),
    "max_message_bytes": ("10", 10),
    "max_state_bytes": ("10", 10),
    "max_state_keys": ("10", 10),
    "max_metadata_bytes": ("1000", 1_000),
    "max_metadata_keys": ("10", 10),
    "max_labels": ("10", 10),
    "max_calls": ("10", 10),
    "max_calls_per_app": ("10", 10),
    "max_calls_per_principal": ("10", 10),
    "max_running_calls": ("10", 10),
    "max_streams": ("10", 10),
    "max_streams_per_app": ("10", 10),
    "max_streams_per_principal": ("10", 10),
    "max_bytes_in_flight": ("10", 10),
    "max_bytes_in_flight_per_app": ("10", 10),
    "max_bytes_in_flight_per_principal": ("10", 10),
    "calls_per_second": ("10", 10),
    "calls_burst": ("10", 10),
    "max_connections": ("10", 10),
    "max_streams_per_connection": ("10", 10),
    "drain_timeout": ("0", 0),
    "expiry_interval": ("100ms", MINUTE // 600),
    "sqlite_synchronous": ("NORMAL", "NORMAL"),
    "postgres_connections": ("3", 3),
    "postgres_prepare": ("false", False),
    "postgres_connect_timeout": ("3s", MINUTE // 20),
    "postgres_statement_timeout": ("3s", MINUTE // 20),
    "backup_dir": ("/b", Path("/b")),
    "reflection": ("true", True),
    "channelz": ("true", True),
    "log_level": ("debug", "debug"),
    "log_format": ("console", "console"),
    "loop": ("asyncio", "asyncio"),
}


def test_every_setting_is_tried_below():
    assert list(OTHER) == [setting.name for setting in table()]


def test_without_flags_the_defaults_hold():
    values = parsed()
    values.pop("version", None)
    assert Settings(**values) == Settings()


@pytest.mark.parametrize("setting", table(), ids=lambda setting: setting.name)
def test_a_setting_is_a_flag(setting: Any):
    text, value = OTHER[setting.name]
    if setting.kind.name == "flag":
        flags = [setting.flag if value else setting.flag.replace("--", "--no-", 1)]
    else:
        flags = [setting.flag, text]
    assert parsed(*flags)[setting.name] == value


@pytest.mark.parametrize("setting", table(), ids=lambda setting: setting.name)
def test_a_setting_is_a_variable_and_a_flag_wins(setting: Any, monkeypatch: pytest.MonkeyPatch):
    text, value = OTHER[setting.name]
    monkeypatch.setenv(setting.variable, text)
    assert parsed()[setting.name] == value
    if setting.kind.name == "flag":
        flags = [setting.flag if setting.default else setting.flag.replace("--", "--no-", 1)]
        assert parsed(*flags)[setting.name] == setting.default
    elif setting.default_text:
        assert parsed(setting.flag, setting.default_text)[setting.name] == setting.default


def test_the_help_names_every_flag_and_the_exit_codes():
    text = CliRunner().invoke(command(), ["--help"]).output
    for setting in table():
        assert setting.flag in text
    assert "Exit codes" in text


def test_the_version_is_the_distribution_s():
    assert version() in CliRunner().invoke(command(), ["--version"]).output


def test_without_the_servers_packages_it_says_what_to_install():
    program = (
        "import sys; sys.modules['click'] = None\n"
        "from sojourn_server.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        'sojourn-server: the server needs click: install it with pip install "sojourn[server]"\n'
    )
