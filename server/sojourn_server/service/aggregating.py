"""AggregateSessions: what sessions add up to, by group.

Where the store keeps the sums that are asked for, they are read from there, whatever the
number of sessions. Everything else is added up by looking at each session that the
filter's hints select, in short reads, so that no reader is held for long.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from sojourn_server.domain import filter as filters
from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.limits import ANSWER_BYTES, PAGE_DEFAULT, PAGE_MOST, SUM_COUNTERS_MOST
from sojourn_server.domain.model import Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.domain.tokens import PagePosition, digest
from sojourn_server.service.paging import open_page, page_size
from sojourn_server.service.summing import Summing
from sojourn_server.service.units import Units
from sojourn_server.store.base import ReadTx

TALLIES_AT_ONCE: Final = 100
"""How many users' sums are read at once."""
VALUES_AT_ONCE: Final = 100
"""How many values of a label are looked for at once."""
SIDE_BY_SIDE: Final = 32
"""How many groups are added up side by side: they share the ways to the database."""
LOOKED_AT: Final = 20_000
"""So many sessions a page looks at before it is handed out with what groups it has."""

ONE: Final = ""
"""The name of the one group, where nothing is grouped."""


class GroupBy(enum.IntEnum):
    """What sessions are grouped by. Numbers are those of the proto."""

    NOTHING = 0
    USER = 1
    STATUS = 2
    LABEL = 3


class AggregateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What AggregateSessions asks for."""

    app: str
    user: str | None = None
    """None: of all users."""
    filter: SessionFilter = filters.EVERYTHING
    group_by: GroupBy = GroupBy.NOTHING
    label_key: str = ""
    roll_up: bool = False
    page_size: int = 0
    page_token: str = ""
    users: Users = EVERY_USER
    """Whose sessions the caller may read: others are not there."""


class Group(msgspec.Struct, frozen=True):
    """One group."""

    name: str
    """The user, the status or the label's value; empty for the group without one."""
    sums: Sums


class AggregatePage(msgspec.Struct, frozen=True):
    """Some groups, by the bytes of their names."""

    groups: tuple[Group, ...]
    next_page_token: str
    revision: int


class _Page:
    """What one page has gathered so far."""

    def __init__(self, size: int, after: str | None) -> None:
        self._size = size
        self._bytes = 0
        self.after = after
        """The last group that the page, or the one before, has dealt with."""
        self.groups: list[Group] = []
        self.more = False
        """Whether another page must follow."""

    def add(self, name: str, sums: Sums, *, empty_too: bool = False) -> bool:
        """Add a group; False: the page is full, and this one begins the next."""
        if self.after is not None and name <= self.after:
            return True
        if not (sums.sessions or empty_too):
            self.after = name
            return True
        size = len(name.encode()) + sum(len(each) + 24 for each in sums.counters) + 64
        if len(self.groups) == self._size or (self.groups and self._bytes + size > ANSWER_BYTES):
            self.more = True
            return False
        self._bytes += size
        self.groups.append(Group(name, sums))
        self.after = name
        return True


class Aggregating:
    """Adds sessions up."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def page(self, query: AggregateQuery) -> AggregatePage:
        """One page.

        Raises:
            Refusal: `PAGE_TOKEN_INVALID`; `INVALID_FIELD` for a negative size, or a label's
                key where none belongs, or the other way round.
        """
        if (query.group_by is GroupBy.LABEL) is not bool(query.label_key):
            raise invalid_field("label_key", "must be set where grouped by label, and only there")
        size = page_size(query.page_size, PAGE_DEFAULT, PAGE_MOST)
        request = digest(_identity(query))
        token = open_page(self._units.sealer, query.page_token, request)
        page = _Page(size, None if token is None else str(token.value))
        if _kept(query):
            revision = await self._units.read(partial(_from_tallies, query=query, page=page))
            now = 0
        else:
            revision, now = await self._units.read(partial(_begin, app=query.app))
            now = now if token is None else token.now
            summing = Summing(self._units, query.app, query.filter, now, query.users, query.roll_up)
            await self._add_up(query, summing, page)
        next_page_token = ""
        if page.more and page.after is not None:
            position = PagePosition(request, now, page.after, 0)
            next_page_token = self._units.sealer.seal(position)
        return AggregatePage(tuple(page.groups), next_page_token, revision)

    async def _add_up(self, query: AggregateQuery, summing: Summing, page: _Page) -> None:
        """Fill a page by looking at sessions."""
        match query.group_by:
            case GroupBy.NOTHING:
                found = await summing.groups(lambda _: ONE, user=query.user)
                page.add(ONE, found.get(ONE, Sums()), empty_too=True)
            case GroupBy.STATUS:
                found = await summing.groups(_status, user=query.user)
                _add_all(page, found)
            case GroupBy.USER:
                await self._by_user(query, summing, page)
            case GroupBy.LABEL:
                await self._by_label(query, summing, page)

    async def _by_user(self, query: AggregateQuery, summing: Summing, page: _Page) -> None:
        """Each user by itself: a page looks at the sessions of its users, and at no others."""
        if query.user is not None:
            page.add(query.user, await summing.one(user=query.user))
            return
        async for users in self._users(query, page.after):
            allowed = [user for user in users if query.users.covers(user)]
            sums = await summing.side_by_side([partial(summing.one, user=each) for each in allowed])
            if not _add_some(page, zip(allowed, sums, strict=True), summing):
                return

    async def _users(self, query: AggregateQuery, after: str | None) -> AsyncIterator[list[str]]:
        statuses = query.filter.statuses or tuple(Status)
        while True:
            found = await self._units.read(
                partial(
                    _some_users, app=query.app, statuses=statuses, after=after, limit=SIDE_BY_SIDE
                )
            )
            if found:
                yield found
            if len(found) < SIDE_BY_SIDE:
                return
            after = found[-1]

    async def _by_label(self, query: AggregateQuery, summing: Summing, page: _Page) -> None:
        """Each value by itself; before them, once, the sessions without that label."""
        key = query.label_key
        if page.after is None:
            bare = await summing.groups(
                lambda session: None if key in session.labels else ONE, user=query.user
            )
            page.add(ONE, bare.get(ONE, Sums()))
            page.after = ONE
        reached: str | None = page.after
        while reached is not None:
            found, reached = await self._units.read(
                partial(_some_values, app=query.app, key=key, after=reached, limit=VALUES_AT_ONCE)
            )
            for place in range(0, len(found), SIDE_BY_SIDE):
                values = found[place : place + SIDE_BY_SIDE]
                sums = await summing.side_by_side(
                    [partial(summing.one, user=query.user, label=(key, each)) for each in values]
                )
                if not _add_some(page, zip(values, sums, strict=True), summing):
                    return


def _kept(query: AggregateQuery) -> bool:
    """Whether the store keeps the sums that are asked for."""
    return (
        set(filters.predicates(query.filter)) <= {"statuses"}
        and query.group_by is not GroupBy.LABEL
        and not query.roll_up
        and (query.users.everyone or (query.user is not None and query.users.covers(query.user)))
    )


async def _from_tallies(tx: ReadTx, query: AggregateQuery, page: _Page) -> int:
    """Fill a page with sums that the store keeps; at which revision."""
    statuses = query.filter.statuses or tuple(Status)
    if query.group_by is GroupBy.USER and query.user is None:
        while True:
            users = await tx.user_sums(query.app, statuses, page.after, TALLIES_AT_ONCE)
            if not all(page.add(user, sums) for user, sums in users):
                break
            if len(users) < TALLIES_AT_ONCE:
                break
        return await tx.head(query.app)
    found = await tx.status_sums(query.app, query.user)
    found = {status: sums for status, sums in found.items() if status in statuses}
    match query.group_by:
        case GroupBy.STATUS:
            _add_all(page, {status.name: sums for status, sums in found.items()})
        case GroupBy.USER:
            assert query.user is not None
            page.add(query.user, _total(found))
        case _:
            page.add(ONE, _total(found), empty_too=True)
    return await tx.head(query.app)


async def _begin(tx: ReadTx, app: str) -> tuple[int, int]:
    """The head before anything is looked at, and what time it is."""
    return await tx.head(app), tx.now


async def _some_users(
    tx: ReadTx, app: str, statuses: Sequence[Status], after: str | None, limit: int
) -> list[str]:
    return [user for user, _ in await tx.user_sums(app, statuses, after, limit)]


async def _some_values(
    tx: ReadTx, app: str, key: str, after: str, limit: int
) -> tuple[Sequence[str], str | None]:
    return await tx.label_values(app, key, after, limit)


def _total(found: Mapping[Status, Sums]) -> Sums:
    total = Sums()
    for sums in found.values():
        total.add(sums)
    total.trim(SUM_COUNTERS_MOST)
    return total


def _status(session: Session) -> str:
    return session.status.name


def _add_all(page: _Page, found: Mapping[str, Sums]) -> None:
    """Add groups of which there are few."""
    all(page.add(name, sums) for name, sums in sorted(found.items()))


def _add_some(page: _Page, groups: Iterable[tuple[str, Sums]], summing: Summing) -> bool:
    """Add groups of which more may follow; False: the page is done."""
    if not all(page.add(name, sums) for name, sums in groups):
        return False
    if summing.looked_at >= LOOKED_AT:
        page.more = True
    return not page.more


def _identity(query: AggregateQuery) -> bytes:
    """What must stay the same from page to page."""
    return msgspec.msgpack.encode(
        (
            "AggregateSessions",
            query.app,
            query.user,
            query.filter,
            query.group_by,
            query.label_key,
            query.roll_up,
        )
    )
