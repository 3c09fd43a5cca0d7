"""Whatever JSON, text or bytes go in: they come out as they went, through a real server."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sojourn import Client, NewMessage, Precondition, testing

letters = st.characters(exclude_categories=["Cs"])
texts = st.text(letters, max_size=30)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(keys.filter(lambda key: len(key) <= 256), json_values, max_size=5)
busy = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        testing.serve_sync(sqlite_synchronous="OFF") as server,
        server.client(app="a") as client,
    ):
        yield client


def exact(value: Any) -> Any:
    """Return something that is equal only for equal values of equal types."""
    if isinstance(value, dict):
        return {key: exact(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exact(inner) for inner in value]
    return type(value), repr(value)


@busy
@given(state=objects, metadata=objects, shared=objects)
def test_state_and_metadata(
    client: Client, state: dict[str, Any], metadata: dict[str, Any], shared: dict[str, Any]
) -> None:
    created = client.sessions.create(state=state, metadata=metadata)
    client.users.update_state("ann", shared)
    session = client.sessions.get(created)
    assert exact(dict(session.state)) == exact(state)
    assert exact(dict(session.metadata)) == exact(metadata)
    read = client.users.get_state("ann").values
    assert exact({key: read[key] for key in shared}) == exact(shared)


@busy
@given(
    content=st.none()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    payload=st.binary(max_size=100),
    metadata=objects,
    event_time=st.none() | st.integers(-9_214_560_000 * 10**9, 9_214_646_400 * 10**9 - 1),
)
def test_messages(
    client: Client,
    content: str | None,
    payload: bytes,
    metadata: dict[str, Any],
    event_time: int | None,
) -> None:
    sent = NewMessage("tool", content, payload, "x/y", metadata, event_time=event_time)
    result = client.messages.append("history", sent, create_if_missing=True)
    message = client.messages.get("history", sequence=result.sequences[0])
    assert message.content == content
    assert message.payload == payload
    assert exact(dict(message.metadata)) == exact(metadata)
    assert message.event_time_ns == event_time
    guard = Precondition(last_sequence=result.sequences[0])
    [popped] = client.messages.pop("history", precondition=guard).messages
    assert popped == message


def test_values_deep_down(client: Client) -> None:
    value: list[Any] = []
    for _ in range(50):
        value = [value]
    session = client.sessions.create(state={"x": value})
    assert client.sessions.get(session).state == {"x": value}
