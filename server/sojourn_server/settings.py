"""The server's settings: one table, from which flags, variables and docs are made.

Each field of `Settings` is one setting: `drain_timeout` is the flag `--drain-timeout`
and the variable `SOJOURN_DRAIN_TIMEOUT`. Lengths of time are nanoseconds in Python
and `90s`, `15m`, `1h30m` or `0` on the command line. What a table of settings is, in
general, stands in `settings_table`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sojourn_server.domain.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Nanos
from sojourn_server.domain.limits import MIB, Limits
from sojourn_server.logs import FORMATS, LEVELS
from sojourn_server.settings_table import FLAG, LENGTH, PATH, TEXT, check, reference_of, table_of
from sojourn_server.settings_table import Kind as Kind
from sojourn_server.settings_table import Setting as Setting
from sojourn_server.settings_table import SettingsError as SettingsError
from sojourn_server.settings_table import ceiling as _ceiling
from sojourn_server.settings_table import format_length as format_length
from sojourn_server.settings_table import parse_length as parse_length
from sojourn_server.settings_table import setting as _setting

SYNCHRONOUS: Final = ("FULL", "NORMAL", "OFF")
LOOPS: Final = ("auto", "uvloop", "asyncio")
JWT_ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""All of them asymmetric: who can check a token must not be able to make one."""

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = ("postgresql://", "postgres://")
_CEILINGS: Final = Limits()
_COUNT: Final = Kind("number", least=1, most=1_000_000)
_BYTES: Final = Kind("number", least=1, most=64 * 1_024 * MIB)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a server.

    Raises:
        SettingsError: A value that cannot be.
    """

    listen: str = _setting(
        "127.0.0.1:7070",
        TEXT,
        "Where to listen, as host:port; port 0 takes a free one. A host other than the "
        "loopback needs TLS and a way to authenticate callers, or --insecure.",
    )
    store: str = _setting(
        "sqlite:///sojourn.db",
        TEXT,
        "Where sessions are kept: sqlite:///relative.db, sqlite:////absolute.db, or "
        "postgresql://host/database with libpq's options. A password is better in the "
        "variable, in store_file or in libpq's own password file.",
        secret=True,
    )
    store_file: Path | None = _setting(
        None,
        PATH,
        "A file that holds what store would say, so that a password is on no command line.",
    )
    port_file: Path | None = _setting(
        None,
        PATH,
        "Write the port to this file, for the account of the server to read, once the server "
        "answers; removed at the end.",
    )
    metrics_listen: str | None = _setting(
        None,
        TEXT,
        "Where to serve metrics for Prometheus over plain HTTP, as host:port. A "
        "host other than the loopback needs --insecure, also with TLS.",
    )
    insecure: bool = _setting(
        False,
        FLAG,
        "Allow an address that others can reach, although TLS or authentication is off.",
    )
    tls_cert: Path | None = _setting(
        None,
        PATH,
        "The server's certificate chain, PEM. Switches TLS on, with tls_key. "
        "Read again when it changes.",
    )
    tls_key: Path | None = _setting(None, PATH, "The private key of tls_cert, PEM.")
    tls_client_ca: Path | None = _setting(
        None,
        PATH,
        "Demand client certificates that these authorities signed, PEM. Switches "
        "authentication on. Read again when it changes.",
    )
    keys_file: Path | None = _setting(
        None,
        PATH,
        "API keys, as hashes: made by sojourn-server keys. Switches authentication on. "
        "Read again when it changes.",
    )
    grants_file: Path | None = _setting(
        None,
        PATH,
        "Who may do what, TOML: grants for principals and groups. Read again when it changes.",
    )
    jwt_issuer: str | None = _setting(
        None,
        TEXT,
        "Who issues the JWTs that are accepted as credentials: their iss, to the letter. "
        "Goes with jwt_audience and jwt_jwks.",
    )
    jwt_audience: str | None = _setting(
        None, TEXT, "Whom accepted JWTs are made for: their aud, or one of them, to the letter."
    )
    jwt_jwks: str | None = _setting(
        None,
        TEXT,
        "The keys of the JWTs' issuer, a JWKS document: an https:// URL, an http:// URL on the "
        "loopback, or a file, which is read again when it changes.",
    )
    jwt_algorithms: str = _setting(
        "RS256,ES256,EdDSA",
        TEXT,
        "How accepted JWTs may be signed, of " + ", ".join(JWT_ALGORITHMS) + ".",
    )
    jwt_groups_claim: str = _setting(
        "groups",
        TEXT,
        "The claim of a JWT that names its bearer's groups, a string or a list of them; "
        "empty: none does.",
    )
    jwt_leeway: Nanos = _setting(
        30 * SECOND,
        Kind("length", most=5 * MINUTE),
        "How far the clocks of the JWTs' issuer and of this machine may be apart.",
    )
    jwt_refresh: Nanos = _setting(
        5 * MINUTE,
        Kind("length", least=10 * SECOND, most=DAY),
        "How often the URL of jwt_jwks is read again.",
    )
    default_idle_timeout: Nanos = _setting(
        HOUR, LENGTH, "How long a session may be idle whose creator named no time; 0: for ever."
    )
    default_max_lifetime: Nanos = _setting(
        0, LENGTH, "How old a session may get whose creator named no age; 0: no limit."
    )
    default_retention: Nanos = _setting(
        7 * DAY, LENGTH, "How long an ended session is kept, then it is removed; 0: for ever."
    )
    unknown_apps: bool = _setting(
        True,
        FLAG,
        "Let an app come into being with its first session; else UpdateApp makes it known.",
    )
    request_keeping: Nanos = _setting(
        24 * HOUR,
        Kind("length", least=24 * HOUR, most=30 * DAY),
        "How long a request_id is remembered.",
    )
    change_keeping: Nanos = _setting(
        7 * DAY,
        Kind("length", least=MINUTE, most=3_650 * DAY),
        "How long a change can be watched: older ones are removed from the log.",
    )
    max_changes: int = _setting(
        1_000_000,
        Kind("number", least=1_000, most=1_000_000_000),
        "How many revisions of an app's log are kept at most.",
    )
    audit_keeping: Nanos = _setting(
        90 * DAY,
        Kind("length", most=36_500 * DAY),
        "How long the audit says who did what; 0: for ever.",
    )
    max_request_bytes: int = _ceiling(
        _CEILINGS.request_bytes, "The most that one request may be, in bytes."
    )
    max_message_bytes: int = _ceiling(
        _CEILINGS.message_bytes,
        "The most that one message's content, payload and metadata may be, in bytes.",
    )
    max_state_bytes: int = _ceiling(
        _CEILINGS.state_bytes, "The most that one scope's state may be, in bytes."
    )
    max_state_keys: int = _ceiling(
        _CEILINGS.state_keys, "The most keys that one scope's state may have."
    )
    max_metadata_bytes: int = _ceiling(
        _CEILINGS.metadata_bytes, "The most that a session's metadata may be, in bytes."
    )
    max_metadata_keys: int = _ceiling(
        _CEILINGS.metadata_keys, "The most keys that a session's metadata may have."
    )
    max_labels: int = _ceiling(_CEILINGS.labels, "The most labels that a session may have.")
    max_calls: int = _setting(
        10_000, _COUNT, "The most calls that are being served, or wait to be, at the same time."
    )
    max_calls_per_app: int = _setting(5_000, _COUNT, "The same, of one app.")
    max_calls_per_principal: int = _setting(2_500, _COUNT, "The same, of one principal.")
    max_running_calls: int = _setting(
        64,
        _COUNT,
        "The most calls that run at the same time. Others wait; principals, or apps while "
        "authentication is off, are served in turns.",
    )
    max_streams: int = _setting(
        10_000, _COUNT, "The most streams and calls that wait for a turn at the same time."
    )
    max_streams_per_app: int = _setting(5_000, _COUNT, "The same, of one app.")
    max_streams_per_principal: int = _setting(2_500, _COUNT, "The same, of one principal.")
    max_bytes_in_flight: int = _setting(
        256 * MIB,
        _BYTES,
        "The most that requests being served and answers not sent yet may be together, in bytes.",
    )
    max_bytes_in_flight_per_app: int = _setting(128 * MIB, _BYTES, "The same, of one app.")
    max_bytes_in_flight_per_principal: int = _setting(
        64 * MIB, _BYTES, "The same, of one principal."
    )
    calls_per_second: int = _setting(
        0,
        Kind("number", most=1_000_000),
        "How many calls a principal, or an app while authentication is off, may begin each "
        "second; 0: no limit.",
    )
    calls_burst: int = _setting(
        1_000, _COUNT, "How many calls it may begin at once after a rest, with calls_per_second."
    )
    max_connections: int = _setting(10_000, _COUNT, "The most connections at the same time.")
    max_streams_per_connection: int = _setting(
        1_000, _COUNT, "The most calls and streams of one connection; clients queue others."
    )
    drain_timeout: Nanos = _setting(
        20 * SECOND,
        Kind("length", most=HOUR),
        "How long live turns and running calls may take once the server was told to stop.",
    )
    expiry_interval: Nanos = _setting(
        SECOND // 2,
        Kind("length", least=10 * MILLISECOND, most=SECOND),
        "The longest that the expiry job sleeps; sooner when a deadline is nearer.",
    )
    sqlite_synchronous: str = _setting(
        "FULL",
        Kind("choice", choices=SYNCHRONOUS),
        "SQLite's synchronous. Only FULL keeps the promise that what was answered is on disk.",
    )
    postgres_connections: int = _setting(
        8, Kind("number", least=2, most=200), "The most connections to PostgreSQL."
    )
    postgres_prepare: bool = _setting(
        True,
        FLAG,
        "Prepare statements. Switch it off behind PgBouncer in transaction mode.",
    )
    postgres_connect_timeout: Nanos = _setting(
        5 * SECOND,
        Kind("length", least=2 * SECOND, most=MINUTE),
        "How long connecting to PostgreSQL may take.",
    )
    postgres_statement_timeout: Nanos = _setting(
        10 * SECOND,
        Kind("length", least=SECOND, most=10 * MINUTE),
        "How long one statement may take in PostgreSQL, waiting for locks included.",
    )
    backup_dir: Path | None = _setting(
        None,
        PATH,
        "The folder where BackupStore puts its copies of an SQLite store; made when missing. "
        "Without it BackupStore is refused.",
    )
    reflection: bool = _setting(False, FLAG, "Answer gRPC reflection: tell callers the contract.")
    channelz: bool = _setting(
        False, FLAG, "Answer gRPC channelz: tell callers about connections and calls."
    )
    log_level: str = _setting(
        "info",
        Kind("choice", choices=LEVELS),
        "The lowest level that is logged; debug writes a line per call.",
    )
    log_format: str = _setting(
        "json", Kind("choice", choices=FORMATS), "JSON lines, or lines for people."
    )
    loop: str = _setting(
        "auto",
        Kind("choice", choices=LOOPS),
        "The event loop: auto takes uvloop where it is installed.",
    )

    def __post_init__(self) -> None:
        for setting in table():
            check(setting, getattr(self, setting.name))
        split_address(self.listen)
        if self.store_file is None and not self.store.startswith(_POSTGRES):
            self.sqlite_path  # noqa: B018 - refuses a store that is none
        if (self.tls_cert is None) != (self.tls_key is None):
            raise SettingsError("tls_cert and tls_key must be set together.")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SettingsError("tls_client_ca needs tls_cert and tls_key.")
        self._check_jwt()
        if self.grants_file is not None and not self.authenticates:
            raise SettingsError("grants_file needs keys_file, jwt_issuer or tls_client_ca.")
        safe = self.tls_cert is not None and self.authenticates
        if not (safe or self.insecure or is_loopback(self.listen)):
            raise SettingsError(
                f"{self.listen} can be reached from elsewhere: set tls_cert and tls_key, and one "
                "of keys_file, jwt_issuer and tls_client_ca, or say --insecure."
            )
        if self.metrics_listen:
            split_address(self.metrics_listen, "metrics_listen")
            if not (self.insecure or is_loopback(self.metrics_listen)):
                raise SettingsError(
                    f"{self.metrics_listen} can be reached from elsewhere, and metrics are served "
                    "without TLS or credentials: say --insecure."
                )

    @property
    def authenticates(self) -> bool:
        """Whether every call needs a credential."""
        return any(
            each is not None for each in (self.keys_file, self.jwt_issuer, self.tls_client_ca)
        )

    @property
    def secret_files(self) -> dict[str, Path]:
        """The files that nobody but the server should be able to read, by their settings."""
        named = {
            "tls_key": self.tls_key,
            "keys_file": self.keys_file,
            "store_file": self.store_file,
        }
        return {name: path for name, path in named.items() if path is not None}

    @property
    def sqlite_path(self) -> Path:
        """The file of the store.

        Raises:
            SettingsError: `store` names none.
        """
        named = self._store_named
        name = named.removeprefix(_SQLITE)
        if name == named or not name or "?" in name or "\0" in name:
            # Not what it is instead: it may hold a password.
            raise SettingsError(
                "store must be sqlite:///relative.db, sqlite:////absolute.db "
                "or postgresql://host/database."
            )
        return Path(name)

    @property
    def postgres_dsn(self) -> str | None:
        """The connection string of the store; None when it is in a file.

        Raises:
            SettingsError: `store_file` cannot be read.
        """
        named = self._store_named
        return named if named.startswith(_POSTGRES) else None

    @property
    def _store_named(self) -> str:
        """What `store` says, or the file in its place."""
        if self.store_file is None:
            return self.store
        try:
            return self.store_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise SettingsError(f"store_file: {self.store_file} cannot be read ({why}).") from None

    @property
    def jwt_algorithm_set(self) -> frozenset[str]:
        """What `jwt_algorithms` names."""
        return frozenset(each.strip() for each in self.jwt_algorithms.split(","))

    def _check_jwt(self) -> None:
        together = (self.jwt_issuer, self.jwt_audience, self.jwt_jwks)
        if any(each is not None for each in together) and not all(together):
            raise SettingsError("jwt_issuer, jwt_audience and jwt_jwks must be set together.")
        if not self.jwt_algorithm_set <= set(JWT_ALGORITHMS):
            raise SettingsError(
                f"jwt_algorithms must be some of {', '.join(JWT_ALGORITHMS)}, with commas."
            )
        if self.jwt_jwks is not None and "://" in self.jwt_jwks:
            _check_url("jwt_jwks", self.jwt_jwks)

    @property
    def limits(self) -> Limits:
        """The ceilings on content, as set."""
        return Limits(
            message_bytes=self.max_message_bytes,
            request_bytes=self.max_request_bytes,
            state_bytes=self.max_state_bytes,
            state_keys=self.max_state_keys,
            metadata_bytes=self.max_metadata_bytes,
            metadata_keys=self.max_metadata_keys,
            labels=self.max_labels,
        )


def table() -> list[Setting]:
    """All settings, in the order of their documentation."""
    return table_of(Settings)


class Address(NamedTuple):
    """Where to listen."""

    host: str
    """Without brackets."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def split_address(listen: str, name: str = "listen") -> Address:
    """Host and port of an address.

    Args:
        listen: The address.
        name: The setting that holds it.

    Raises:
        SettingsError: It has no host, or no port of 0 to 65535.
    """
    host, _, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    digits = port.isascii() and port.isdigit()
    if not bare or (":" in bare) != (bare != host) or not digits or int(port) > 65_535:
        raise SettingsError(f"{name} must be host:port or [host]:port, not {listen}.")
    return Address(bare, int(port))


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach an address."""
    return _is_loopback_host(split_address(listen).host)


def _is_loopback_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name; what it resolves to may change.
        return False


def _check_url(name: str, url: str) -> None:
    """Hold a URL to what can be fetched safely.

    Raises:
        SettingsError: It has another scheme, a password, or plain HTTP beyond the loopback.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    strange = any(each <= " " or each > "~" for each in url)
    if not host or strange or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        # Not what it is instead: it may hold a password.
        raise SettingsError(f"{name} must be a file or an https:// URL without a password.")
    if parts.scheme == "http" and not _is_loopback_host(host):
        raise SettingsError(f"{name} must begin with https:// where it leaves this machine.")


def reach(listen: str) -> str:
    """The address under which this machine reaches a server that listens so."""
    address = split_address(listen)
    try:
        unspecified = ipaddress.ip_address(address.host).is_unspecified
    except ValueError:
        unspecified = False
    if not unspecified:
        return str(address)
    return str(Address("::1" if ":" in address.host else "127.0.0.1", address.port))


def reference() -> str:
    """docs/reference/settings.md, made from the table."""
    return reference_of(table())
