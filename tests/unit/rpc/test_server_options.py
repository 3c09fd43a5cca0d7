"""What grpc is told: it takes no notice of a name that it does not know."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from sojourn_server.rpc.server import OPTIONS

(FILE,) = (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so")
LIBRARY = FILE.read_bytes()
OTHERS = ("grpc.max_allowed_incoming_connections", "grpc.max_concurrent_streams")


@pytest.mark.parametrize("name", [*(name for name, _ in OPTIONS), *OTHERS])
def test_each_option_is_one_that_grpc_knows(name: str) -> None:
    assert name.encode() + b"\0" in LIBRARY


def test_a_name_that_grpc_does_not_know_is_found_out() -> None:
    assert b"grpc.http2.min_recv_ping_interval_without_data_ms\0" not in LIBRARY


def test_metadata_is_never_turned_away_at_random() -> None:
    options = dict(OPTIONS)
    assert options["grpc.max_metadata_size"] == options["grpc.absolute_max_metadata_size"]
