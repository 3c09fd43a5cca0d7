"""Candidate lists of this backend. How they are put together stands in `store.lists`."""

from __future__ import annotations

from typing import Final

from sojourn_server.store.lists import Lists
from sojourn_server.store.sqlite.queries import QUERIES

plan: Final = Lists(QUERIES._asdict()).plan
