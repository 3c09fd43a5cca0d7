"""What a client can do, by noun: shared by the client and the handles it gives out."""

from __future__ import annotations

from sojourn._async.caller import AsyncCaller
from sojourn._async.messages import AsyncMessages
from sojourn._async.sessions import AsyncSessions
from sojourn._async.state import AsyncApps, AsyncUsers
from sojourn._async.turns import AsyncTurns


class AsyncServices:
    """One object for each noun, all on one caller."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller
        self.sessions = AsyncSessions(caller)
        self.messages = AsyncMessages(caller)
        self.turns = AsyncTurns(caller)
        self.users = AsyncUsers(caller)
        self.apps = AsyncApps(caller)
