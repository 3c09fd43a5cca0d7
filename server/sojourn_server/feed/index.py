"""Who wants a change: found by what the change is of, not by asking everybody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

from sojourn_server.domain import filter as filters
from sojourn_server.domain.watching import Interest
from sojourn_server.store.base import LoggedChange


class Wanting(Protocol):
    """Somebody who wants something."""

    @property
    def interest(self) -> Interest:
        """What is wanted."""
        ...


W = TypeVar("W", bound=Wanting)
_Place = tuple[str, object]


class Index(Generic[W]):
    """Everybody, by the narrowest thing that all they want has in common."""

    def __init__(self) -> None:
        self._places: dict[_Place, dict[W, None]] = {}

    def add(self, who: W) -> None:
        """Take somebody in."""
        for place in _places_of(who.interest):
            self._places.setdefault(place, {})[who] = None

    def remove(self, who: W) -> None:
        """Let somebody go."""
        for place in _places_of(who.interest):
            found = self._places[place]
            del found[who]
            if not found:
                del self._places[place]

    def wanting(self, change: LoggedChange) -> Iterable[W]:
        """Who may want a change: all who do, and few others."""
        found = (self._places.get(place) for place in _places_in(change))
        return chain.from_iterable(who for who in found if who)


def _places_of(interest: Interest) -> Iterator[_Place]:
    """Where somebody is found: in one place for each kind of change."""
    yield _session_place(interest)
    if interest.user is None:
        yield ("erased", None)
    else:
        yield from (("erased", alias) for alias in interest.aliases)
    if interest.app_changes:
        yield ("app", None)
        yield ("state", interest.user)


def _session_place(interest: Interest) -> _Place:
    if interest.user is not None:
        return "user", interest.user
    parent = interest.parent_uid or interest.filter.parent_uid
    if parent:
        return "parent", parent
    label = filters.label_hint(interest.filter)
    if label is not None:
        return "label", label
    return "all", None


def _places_in(change: LoggedChange) -> Iterator[_Place]:
    """Where those are found who may want a change; each of them in one place."""
    if change.detail.alias:
        yield ("erased", None)
        yield ("erased", change.detail.alias)
        return
    before, after = change.before, change.after
    subject = before if after is None else after
    if subject is None:
        user = change.detail.user
        if user is None:
            yield ("app", None)
        else:
            yield ("state", None)
            yield ("state", user)
        return
    yield ("all", None)
    yield ("user", subject.user)
    if subject.parent_uid:
        yield ("parent", subject.parent_uid)
    labels = set(subject.labels.items())
    if before is not None and before is not subject:
        labels.update(before.labels.items())
    for label in labels:
        yield ("label", label)
