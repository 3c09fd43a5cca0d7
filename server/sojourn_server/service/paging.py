"""What all lists share: sizes of pages and their tokens."""

from __future__ import annotations

from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.tokens import PagePosition, Sealer


def page_size(asked: int, default: int, most: int) -> int:
    """How many items a page may hold.

    Args:
        asked: What the caller wants; 0: no matter.
        default: What 0 means.
        most: The most that is given, whatever is asked.

    Raises:
        Refusal: `INVALID_FIELD`: a negative size.
    """
    if asked < 0:
        raise invalid_field("page_size", "must not be negative")
    return min(asked or default, most)


def open_page(sealer: Sealer, token: str, request: bytes) -> PagePosition | None:
    """Where a page begins; None for the first one.

    Args:
        sealer: Opens the token.
        token: The caller's page token, or empty.
        request: The fingerprint of the request's other fields.

    Raises:
        Refusal: `PAGE_TOKEN_INVALID`: it was changed, or made for another request.
    """
    if not token:
        return None
    position = sealer.open(token, PagePosition)
    if position.request != request:
        raise sealer.invalid(PagePosition)
    return position
