"""Makes the gate that the settings ask for."""

from __future__ import annotations

from sojourn_server.access import grants, keys
from sojourn_server.access.files import BadFile, WatchedFile
from sojourn_server.access.gate import Gate
from sojourn_server.settings import Settings, SettingsError


def make_gate(settings: Settings) -> Gate | None:
    """What authenticates calls; None: nothing was asked for, and anybody may call.

    Raises:
        SettingsError: A file that a setting names cannot be used.
    """
    if not settings.authenticates:
        return None
    try:
        return Gate(
            keys=(
                None
                if settings.keys_file is None
                else WatchedFile(settings.keys_file, "keys_file", keys.parse)
            ),
            grants=(
                None
                if settings.grants_file is None
                else WatchedFile(settings.grants_file, "grants_file", grants.parse)
            ),
        )
    except BadFile as error:
        raise SettingsError(str(error)) from None
