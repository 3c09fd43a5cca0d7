"""A client outlives its server: the connection mends itself, and nothing happens twice."""

import asyncio
from pathlib import Path

import pytest

import sojourn
from sojourn import NewMessage, RetryOptions, errors, testing

ONCE = RetryOptions(max_attempts=1)


async def test_a_client_goes_on_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 's.db'}"
    async with testing.serve(store=store) as server:
        client = sojourn.connect(server.target, app="a", deadline=20)
        await client.messages.append(
            "s", NewMessage("user", "before"), create_if_missing=True, request_id="r-1"
        )
    with pytest.raises(errors.UnavailableError):
        await client.with_options(retry=ONCE).sessions.get("s")
    during = asyncio.create_task(client.messages.append("s", NewMessage("user", "during")))
    await asyncio.sleep(0.3)
    async with testing.serve(store=store, listen=server.target):
        assert (await during).sequences == (2,)
        again = await client.messages.append(
            "s", NewMessage("user", "before"), create_if_missing=True, request_id="r-1"
        )
        assert again.sequences == (1,)
        messages = await client.messages.list("s").to_list()
        assert [message.content for message in messages] == ["before", "during"]
        await client.close()


async def test_a_server_that_drains_says_so_or_is_gone() -> None:
    async with testing.serve() as server:
        client = server.client(app="a", retry=ONCE)
        session = await client.attach("s")
    with pytest.raises(errors.UnavailableError):
        await session.append("user", "late")
    await client.close()
