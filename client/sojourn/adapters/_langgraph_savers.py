"""What is asked of a LangGraph checkpointer: to delete threads, and to tell which it has."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver

from sojourn.errors import ConfigurationError

ThreadIds: TypeAlias = Callable[
    [str], Iterable[str] | AsyncIterable[str] | Awaitable[Iterable[str]]
]
"""Tells a saver's thread ids that begin with a text; others, and repeats, do no harm."""


PATIENCE = 60.0
"""Seconds that the deletion of one thread may take; then it counts as failed."""


class SaverError(Exception):
    """The saver failed; what it raised is the cause."""


class Saver:
    """A checkpointer, by the two things that a cleaner needs.

    Asynchronous methods are called where the checkpointer has them, else the others, in a thread.

    Args:
        saver: The checkpointer.
        thread_ids: Tells its threads; None: they are collected from all its checkpoints.

    Raises:
        ConfigurationError: it cannot delete threads.
    """

    def __init__(
        self, saver: BaseCheckpointSaver[Any], thread_ids: ThreadIds | None = None
    ) -> None:
        base = BaseCheckpointSaver
        names = ("adelete_thread", "delete_thread")
        if all(getattr(type(saver), name, None) is getattr(base, name) for name in names):
            raise ConfigurationError(f"{type(saver).__name__} has no delete_thread")
        self._saver = saver
        self._thread_ids = thread_ids

    async def delete(self, thread_id: str) -> None:
        """Delete a thread; one that is not there is no error.

        Raises:
            SaverError: it could not, whatever the reason, or not in a minute.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._delete(thread_id)
        except Exception as error:
            raise SaverError(f"a thread was not deleted: {type(error).__name__}") from error

    async def _delete(self, thread_id: str) -> None:
        try:
            await self._saver.adelete_thread(thread_id)
        except NotImplementedError:
            await asyncio.to_thread(self._saver.delete_thread, thread_id)

    async def thread_ids(self, prefix: str) -> set[str]:
        """Return the ids of the threads that begin with a text.

        Raises:
            SaverError: it could not tell them, whatever the reason.
        """
        try:
            found = await self._told(prefix) if self._thread_ids else await self._collected()
        except Exception as error:
            raise SaverError(f"no threads were told: {type(error).__name__}") from error
        return {one for one in found if one.startswith(prefix)}

    async def _told(self, prefix: str) -> set[str]:
        assert self._thread_ids is not None
        told = self._thread_ids(prefix)
        if inspect.isawaitable(told):
            told = await told
        if isinstance(told, AsyncIterable):
            return {one async for one in told}
        return set(told)

    async def _collected(self) -> set[str]:
        try:
            return {_thread_id(one.config) async for one in self._saver.alist(None)}
        except NotImplementedError:
            return await asyncio.to_thread(
                lambda: {_thread_id(one.config) for one in self._saver.list(None)}
            )


def _thread_id(config: Any) -> str:
    return str(config["configurable"]["thread_id"])
