"""Rows S2-31 to S2-33: what is wrong with the store, logs and metrics."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sojourn import AsyncClient, NewMessage, Precondition, errors
from tests.acceptance.kit import Place, until

UNUSABLE = {
    "sqlite": ("sqlite:////nowhere/at/all/sojourn.db", "/nowhere/at/all"),
    "postgres": ("postgresql://sojourn@127.0.0.1:1/sojourn", "127.0.0.1"),
}


def test_s2_31_what_is_wrong_with_the_store(store: str, tmp_path: Path) -> None:
    """A server that cannot use its store does not start, and one line says which store and why."""
    url, named = UNUSABLE[store]
    done = subprocess.run(
        [sys.executable, "-m", "sojourn_server", "--listen", "127.0.0.1:0", "--store", url],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3, "not as the how-to says"
    said = done.stdout + done.stderr
    assert named in said
    assert "Traceback" not in said


async def test_s2_32_a_log_that_says_more(place: Place, talkative: Place) -> None:
    """At debug the log has a line for each call; by default it has not, and never any text."""
    for server in (talkative, place):
        async with server.client("s2_32") as client:
            await client.messages.append(
                "s", NewMessage("user", "My card is 4111"), create_if_missing=True
            )
            await client.sessions.reset("s")

    def resets(server: Place) -> list[str]:
        return [line["level"] for line in server.log() if line.get("method") == "ResetSession"]

    until(lambda: resets(talkative), "the call is in the log")
    assert resets(talkative) == ["debug"]
    assert resets(place) == []
    assert "card" not in str(talkative.log())


async def test_s2_33_growth_timing_and_conflicts(place: Place, client: AsyncClient) -> None:
    """Prometheus can read how the store grows, how long resets take, and who came too late."""
    resets = {"grpc_method": "ResetSession"}
    conflicts = {"reason": "ETAG_MISMATCH"}

    def looks() -> tuple[float, float, float]:
        return (
            place.metrics()["sojourn_store_rows_added_total"],
            place.metrics(**resets).get("grpc_server_handling_seconds_count", 0.0),
            place.metrics(**conflicts).get("sojourn_refusals_total", 0.0),
        )

    rows, handled, refused = looks()
    await client.sessions.create("s")
    await client.messages.append("s", [NewMessage("user", str(n)) for n in range(25)])
    with pytest.raises(errors.EtagMismatchError):
        await client.sessions.reset("s", precondition=Precondition(etag="bm90LXRoaXM"))
    await client.sessions.reset("s")
    until(lambda: looks()[0] >= rows + 26, "rows were added")
    until(lambda: looks()[1:] == (handled + 2, refused + 1), "calls and refusals were counted")
    assert place.metrics(**resets)["grpc_server_handling_seconds_sum"] > 0
    until(lambda: place.metrics().get("sojourn_store_bytes", 0) > 0, "the store's size is known")
