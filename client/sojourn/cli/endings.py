"""How a command that has no end of its own is ended: by a signal, or when nobody reads any more."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Whether the command was told to end."""

    def __init__(self) -> None:
        self._asked = False
        self._waiting = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Remember the signal; whoever waits is told at once."""
        self._asked = True
        if self._waiting:
            raise KeyboardInterrupt

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Only in this block a signal interrupts; anything else is done to its end first."""
        self._waiting = True
        try:
            if self._asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False


@contextmanager
def until_told() -> Iterator[Ending]:
    """Run a block until a signal ends it, or its reader is gone: both are good endings."""
    ending = Ending()
    before = {one: signal.signal(one, ending.handle) for one in SIGNALS}
    try:
        yield ending
    except KeyboardInterrupt:
        pass
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        _write_to_nobody()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def raise_if_unread() -> None:
    """Raise `BrokenPipeError` if standard output is a pipe that nobody reads any more."""
    if not hasattr(select, "poll"):
        return
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        # Not a file: somebody collects the output in memory.
        return
    poll = select.poll()
    poll.register(number, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _write_to_nobody() -> None:
    """Let what is still in the buffers go nowhere, instead of failing once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
