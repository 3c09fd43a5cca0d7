# Generated from client/sojourn/_async/services.py by `make gen`. Edit the source, never this file.
"""What a client can do, by noun: shared by the client and the handles it gives out."""

from __future__ import annotations

from sojourn._sync.admin import Admin
from sojourn._sync.apps import Apps
from sojourn._sync.caller import Caller
from sojourn._sync.messages import Messages
from sojourn._sync.sessions import Sessions
from sojourn._sync.turns import Turns
from sojourn._sync.users import Users


class Services:
    """One object for each noun, all on one caller."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.sessions = Sessions(caller)
        self.messages = Messages(caller)
        self.turns = Turns(caller)
        self.users = Users(caller)
        self.apps = Apps(caller)
        self.admin = Admin(caller)
