"""How much of a session comes along: with its creation, and in lists."""

from sojourn import AsyncClient, IfExists, View


async def test_a_created_session_brings_its_state_when_asked(client: AsyncClient) -> None:
    await client.sessions.create("a", user="ann", user_state={"u": 1}, app_state={"a": 1})
    made = await client.sessions.create(
        "b", user="ann", state={"s": None}, metadata={"m": 1.0}, idle_timeout=0, view=View.FULL
    )
    assert made.state == {"s": None}
    assert made.metadata_json == {"m": "1.0"}
    assert made.user_state.values == {"u": 1}
    assert made.app_state.values == {"a": 1}
    assert made == await client.sessions.get("b", user="ann")


async def test_so_does_one_that_is_there_already(client: AsyncClient) -> None:
    await client.sessions.create("a", user="ann", state={"s": 1})
    found = await client.sessions.create(
        "a", user="ann", state={"s": 2}, view=View.FULL, if_exists=IfExists.RETURN_EXISTING
    )
    assert found.state == {"s": 1}


async def test_listed_sessions_have_what_each_of_them_says_alone(client: AsyncClient) -> None:
    for number in range(7):
        user = ("", "ann", "bob")[number % 3]
        await client.sessions.create(f"s-{number}", user=user, user_state={"last": number})
    await client.sessions.create("last", app_state={"a": [None]})
    listed = await client.sessions.list(view=View.FULL, page_size=2).to_list()
    assert len(listed) == 8
    for session in listed:
        alone = await client.sessions.get(session)
        assert session.content == alone.content
    assert {session.user: session.user_state.values for session in listed} == {
        "": {"last": 6},
        "ann": {"last": 4},
        "bob": {"last": 5},
    }
