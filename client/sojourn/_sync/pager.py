# Generated from client/sojourn/_async/pager.py by `make gen`. Edit the source, never this file.
"""Lists that are read page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from sojourn import _checks as check
from sojourn._acompat import SyncFunction
from sojourn._calls import PageAsk
from sojourn.models import Page

T = TypeVar("T")


class Pager(Generic[T]):
    """A list on the server. Nothing is read before it is asked for.

    `for item in pager` reads all items, page after page. Each new loop starts from the
    beginning.
    """

    def __init__(
        self,
        fetch: SyncFunction[[PageAsk], Page[T]],
        *,
        page_size: int = 0,
        page_token: str = "",
    ) -> None:
        self._fetch = fetch
        self._page_size = check.integer("page_size", page_size, maximum=2**31 - 1)
        self._page_token = page_token

    def __iter__(self) -> Iterator[T]:
        for page in self.pages():
            for item in page.items:
                yield item

    def pages(self) -> Iterator[Page[T]]:
        """Read page after page. A page may be empty with more to come."""
        token = self._page_token
        while True:
            page = self._fetch(PageAsk(token, self._page_size))
            yield page
            token = page.next_page_token
            if not token:
                return

    def to_list(self) -> list[T]:
        """Read all items, however many there are."""
        return [item for item in self]

    def page(self, number: int, *, limit: int = 50) -> Page[T]:
        """Read the page of this number, from 1, when pages have `limit` items, 1 to 1,000.

        Walks over the pages before it, so a high number costs more; following `next_page_token`
        costs the same on every page. Past the end the items are empty. `total_size` says how many
        items there are in all, where the list can count them, which costs a scan.
        """
        check.integer("number", number, minimum=1)
        check.integer("limit", limit, minimum=1, maximum=check.MAX_ITEMS)
        to_skip = (number - 1) * limit
        size = min(to_skip or limit, check.MAX_ITEMS)
        first = self._fetch(PageAsk(self._page_token, size, count=True, skim=to_skip > 0))
        page = first
        while to_skip:
            to_skip -= len(page.items)
            if not page.next_page_token:
                return Page((), "", first.revision, first.total_size, first.resume_token)
            size = min(to_skip or limit, check.MAX_ITEMS)
            page = self._fetch(PageAsk(page.next_page_token, size, skim=to_skip > 0))
        items = page.items
        while len(items) < limit and page.next_page_token:
            page = self._fetch(PageAsk(page.next_page_token, limit - len(items)))
            items += page.items
        return Page(
            items, page.next_page_token, page.revision, first.total_size, first.resume_token
        )

    def count(self) -> int:
        """Count the items: the server does where it can, else they are read."""
        page = self._fetch(PageAsk(self._page_token, 1, count=True, skim=True))
        if page.total_size is not None:
            return page.total_size
        return len([item for item in self])
