"""The use cases, one module per noun: what each RPC means, on any store."""

from sojourn_server.domain.limits import Limits
from sojourn_server.domain.tokens import Sealer
from sojourn_server.service.apps import Apps
from sojourn_server.service.auditing import Auditing
from sojourn_server.service.bulk import Bulk
from sojourn_server.service.deleting import AppDeletion
from sojourn_server.service.deleting_many import AppDeletions
from sojourn_server.service.erasing import Erasing
from sojourn_server.service.history import History
from sojourn_server.service.operations import Operations
from sojourn_server.service.sessions import Sessions
from sojourn_server.service.states import States
from sojourn_server.service.turns import Turns
from sojourn_server.service.units import Units
from sojourn_server.service.work import Defaults
from sojourn_server.store.base import Store

__all__ = ["Defaults", "Limits", "Sealer", "Services"]


class Services:
    """All use cases of one server.

    Args:
        store: Where sessions are kept.
        sealer: Makes and opens tokens.
        limits: Ceilings on what one call may bring.
        defaults: What holds where an app's policy is silent.
    """

    def __init__(self, store: Store, sealer: Sealer, limits: Limits, defaults: Defaults) -> None:
        self.units = Units(store, sealer, limits, defaults)
        self.sealer = sealer
        self.sessions = Sessions(self.units)
        self.turns = Turns(self.units)
        self.history = History(self.units)
        self.states = States(self.units)
        self.operations = Operations(self.units)
        self.apps = Apps(self.units)
        self.bulk = Bulk(self.units, self.operations)
        self.deletion = AppDeletion(self.units, self.operations)
        self.deletions = AppDeletions(self.units, self.operations, self.deletion)
        self.erasing = Erasing(self.units, self.operations)
        self.auditing = Auditing(self.units)
