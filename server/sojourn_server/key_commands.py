"""`sojourn-server keys`: make, list and revoke API keys.

They work on the file that `keys_file` names, beside a server that runs: it notices
within a second. Two commands at once wait for each other.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from sojourn_server.access import keys
from sojourn_server.access.files import BadFile
from sojourn_server.access.keys import Key, KeyFile
from sojourn_server.domain.access import Grant, Role
from sojourn_server.domain.clock import SECOND
from sojourn_server.settings import SettingsError, parse_length

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


@click.group("keys")
def key_commands() -> None:
    """Make, list and revoke API keys, in the file that --keys-file names.

    A server that runs takes notice within a second. The file holds hashes: whoever reads it
    can use none of its keys.
    """


@key_commands.command("create")
@click.argument("name")
@click.option(
    "--grant",
    "granted",
    nargs=3,
    multiple=True,
    metavar="ROLE APP USER",
    help="What the key may do: read, write, reset or admin, on which apps, for which users; "
    "* stands for any characters. May be given several times. Without one: the grants of the "
    "name's newest live key.",
)
@click.option("--expires", metavar="LENGTH", help="How long it is good: 90d. Else for ever.")
@click.pass_context
def create(
    context: click.Context,
    name: str,
    granted: Sequence[tuple[str, str, str]],
    expires: str | None,
) -> None:
    """Make a key for NAME, and print it: it is shown this once.

    The principal is key:NAME. A name may have several keys at once: to rotate one, create
    another, hand it out, and revoke the old one.
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError("NAME is 1 to 128 letters, digits, dots, dashes, underscores or @.")
    lifetime = _lifetime(expires)
    path = _path(context)
    now = keys.utc_now()
    with _exclusive(path):
        file = _read(path)
        grants = [_grant(*each) for each in granted] or _inherited(file, name)
        if not grants:
            raise click.UsageError(f"{name} has no live key to take grants from: give --grant.")
        key, entry = keys.make(name, grants, lifetime, now)
        _write(path, msgspec.structs.replace(file, keys=(*file.keys, entry)))
    click.echo(f"id {entry.id}, principal {keys.KIND}{name}", err=True)
    click.echo(key)


@key_commands.command("list")
@click.option("--all", "everything", is_flag=True, help="Also keys that are expired or revoked.")
@click.option("--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
def list_keys(context: click.Context, everything: bool, output: str) -> None:
    """List keys: ids, names, times and grants, never a key itself."""
    now = keys.utc_now()
    shown = [
        key
        for key in _read(_path(context), must_exist=True).keys
        if everything or key.status(now) == "live"
    ]
    for key in shown:
        click.echo(_json(key, key.status(now)) if output == "json" else _line(key, key.status(now)))


@key_commands.command("revoke")
@click.argument("chosen", nargs=-1, required=True, metavar="ID_OR_NAME...")
@click.pass_context
def revoke(context: click.Context, chosen: Sequence[str]) -> None:
    """Revoke keys, by id, or by name all keys of it. Open streams end within 10 s."""
    path = _path(context)
    with _exclusive(path):
        try:
            file, revoked = keys.revoke(_read(path, must_exist=True), chosen, keys.utc_now())
        except LookupError as error:
            raise click.ClickException(f"no key has the id or the name {error.args[0]}.") from None
        _write(path, file)
    click.echo(f"revoked: {' '.join(key.id for key in revoked) or 'none, they were already'}")


def _path(context: click.Context) -> Path:
    parent = context.find_root().obj or {}
    path: Path | None = parent.get("keys_file")
    if path is None:
        raise click.UsageError("Which file? Name it with --keys-file, or set SOJOURN_KEYS_FILE.")
    return path


def _lifetime(text: str | None) -> timedelta | None:
    if text is None:
        return None
    try:
        nanos = parse_length(text)
    except SettingsError as error:
        raise click.UsageError(f"--expires: {error}") from None
    if nanos < SECOND:
        raise click.UsageError("--expires must be at least 1s.")
    return timedelta(seconds=nanos // SECOND)


def _grant(role: str, app: str, user: str) -> Grant:
    try:
        return Grant(Role(role), app, user)
    except ValueError:
        roles = ", ".join(Role)
        raise click.UsageError(f"--grant: a role is one of {roles}, not {role}.") from None


def _inherited(file: KeyFile, name: str) -> list[Grant]:
    """The grants of a name's newest live key."""
    now = keys.utc_now()
    live = [key for key in file.keys if key.name == name and key.status(now) == "live"]
    return list(live[-1].grants) if live else []


def _read(path: Path, *, must_exist: bool = False) -> KeyFile:
    try:
        return keys.read_file(path.read_bytes())
    except FileNotFoundError:
        if must_exist:
            raise click.ClickException(f"{path} is not there.") from None
        return KeyFile()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read ({error.strerror}).") from None
    except BadFile as error:
        raise click.ClickException(str(error)) from None


def _write(path: Path, file: KeyFile) -> None:
    try:
        keys.write_file(path, file)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written ({error.strerror}).") from None


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Keep other commands from the file: two that read before either writes lose a key."""
    try:
        import fcntl  # noqa: PLC0415 - not on every platform
    except ImportError:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise click.ClickException(f"{lock} cannot be written ({error.strerror}).") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _line(key: Key, status: str) -> str:
    grants = ", ".join(f"{grant.role} {grant.app} {grant.user}" for grant in key.grants)
    until = "" if key.expire_time is None else f"  until {key.expire_time.isoformat()}"
    made = key.create_time.isoformat()
    return f"{key.id}  {key.name}  {status}  made {made}{until}  {grants}"


def _json(key: Key, status: str) -> str:
    facts: dict[str, Any] = {
        "id": key.id,
        "name": key.name,
        "principal": keys.KIND + key.name,
        "status": status,
        "create_time": key.create_time,
        "expire_time": key.expire_time,
        "revoke_time": key.revoke_time,
        "grants": key.grants,
    }
    return msgspec.json.encode(facts).decode()
