"""What holds for all tests."""

from __future__ import annotations

import os

# Before gRPC is loaded: PostgreSQL's tools are run as another user, for which Python forks,
# and gRPC's handlers of forks crash the child now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
