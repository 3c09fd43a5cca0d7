"""Fields of frozen dataclasses that are made when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, overload

T = TypeVar("T")


class Pending(Generic[T]):
    """Stands in a field until somebody reads it."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[[], T]) -> None:
        self.make = make


class Required:
    """Says that a field has no default."""


class Lazy(Generic[T]):
    """A field that may hold a `Pending`; to whoever reads it, it holds the value.

    For dataclasses without slots. Two threads that read at once may both make the value, which is
    the same.
    """

    def __init__(self, default: T | type[Required] = Required) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> T: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> T:
        if instance is None:
            # So dataclasses ask for the default.
            if self._default is Required:
                raise AttributeError(self._name)
            return cast(T, self._default)
        value = instance.__dict__[self._name]
        if isinstance(value, Pending):
            value = instance.__dict__[self._name] = value.make()
        found: T = value
        return found

    def __set__(self, instance: object, value: T) -> None:
        instance.__dict__[self._name] = value


def settled(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with everything made that was pending: what can be copied and pickled."""
    return {
        name: value.make() if isinstance(value, Pending) else value
        for name, value in fields.items()
    }
