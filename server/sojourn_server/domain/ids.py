"""Ids that the server makes."""

from __future__ import annotations

import os

from sojourn_server.domain.clock import MILLISECOND, Nanos


def uuid7(now: Nanos) -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, 74 random bits; 36 characters.

    Args:
        now: What time it is.
    """
    milliseconds = (now // MILLISECOND) & ((1 << 48) - 1)
    random = int.from_bytes(os.urandom(10), "big")
    high, low = random >> 62 & 0xFFF, random & ((1 << 62) - 1)
    value = milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
