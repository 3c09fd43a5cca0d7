"""The ceilings that the protos' rules cannot express: sums over several fields.

Settings may lower them; nothing raises them.
"""

from __future__ import annotations

from typing import Final

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * KIB

ANSWER_BYTES: Final = MIB
"""An answer with several items is cut at this size, or holds one item."""

UNIT_ROWS: Final = 500
"""How many rows a reset, truncation or cascade removes within its own unit."""

PAGE_DEFAULT: Final = 50
PAGE_MOST: Final = 1_000

SCAN_ROWS: Final = 2_000
"""How many candidates one page of a list looks at before it hands out a token."""

CASCADE_MOST: Final = 10_000
"""How many descendants one call ends or deletes."""

ROLL_UP_MOST: Final = 10_000
"""How many descendants are summed up with a session."""

ROLL_UP_COUNTERS: Final = 1_000
"""How many counters of different names such a sum tells."""

COUNTER_MOST: Final = 2**63 - 1
SEQUENCE_MOST: Final = 2**63 - 1
COUNTERS_MOST: Final = 64
SUM_COUNTERS_MOST: Final = 256
"""How many counters the sums of many sessions name: the first, by name."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings on what one call may bring. All in bytes, but for the counts."""

    message_bytes: int = MIB
    request_bytes: int = 4 * MIB
    state_bytes: int = 256 * KIB
    state_keys: int = 1_000
    metadata_bytes: int = MIB
    metadata_keys: int = 64
    labels: int = 64
