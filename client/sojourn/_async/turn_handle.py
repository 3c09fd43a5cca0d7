"""A turn in one's hands."""

from __future__ import annotations
