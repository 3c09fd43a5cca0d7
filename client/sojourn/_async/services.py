"""What a client can do, by noun: shared by the client and the handles it gives out."""

from __future__ import annotations

from sojourn._async.admin import AsyncAdmin
from sojourn._async.apps import AsyncApps
from sojourn._async.caller import AsyncCaller
from sojourn._async.messages import AsyncMessages
from sojourn._async.sessions import AsyncSessions
from sojourn._async.turns import AsyncTurns
from sojourn._async.users import AsyncUsers


class AsyncServices:
    """One object for each noun, all on one caller."""

    def __init__(self, caller: AsyncCaller) -> None:
        self.caller = caller
        self.sessions = AsyncSessions(caller)
        self.messages = AsyncMessages(caller)
        self.turns = AsyncTurns(caller)
        self.users = AsyncUsers(caller)
        self.apps = AsyncApps(caller)
        self.admin = AsyncAdmin(caller)
