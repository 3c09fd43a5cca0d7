"""The real server with a commit for each write: what group commit is compared with.

It is no setting of the server, since nobody would want it.
"""

from __future__ import annotations

from typing import Any

from sojourn_server.command import main
from sojourn_server.store import postgres


class OneByOne(postgres.PostgresStore):
    """A store that puts one unit in a commit."""

    def __init__(self, options: postgres.Options, **more: Any) -> None:
        super().__init__(options, **{**more, "max_batch": 1})


if __name__ == "__main__":
    # Where `app.make_store` looks for it.
    postgres.PostgresStore = OneByOne  # type: ignore[misc]
    main()
