# Generated from tests/api/_async/test_bearer.py by `make gen`. Edit the source, never this file.
"""Credentials on their way: what is sent, and what happens when the server refuses it."""

from pathlib import Path

import grpc
import pytest

import sojourn
from sojourn import ApiKey, BearerToken, Session, errors
from sojourn import _credentials as rules
from sojourn._acompat import sync_sleep
from tests.api.scripted import Script, reasoned
from tests.api.together import sync_together

REFUSED = reasoned(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


def sent(script: Script) -> list[str | bytes | None]:
    """The credentials that the server saw."""
    return [one.metadata.get("authorization") for one in script.seen]


class Issuer:
    """Gives the tokens t1, t2, t3 …"""

    def __init__(self) -> None:
        self.asked = 0

    def get(self) -> str:
        self.asked += 1
        return f"t{self.asked}"


def test_each_kind_of_credential_is_sent_with_every_call(script: Script, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k2\n", encoding="ascii")
    issuer = Issuer()
    for credentials in (
        None,
        ApiKey("k1"),
        ApiKey.from_file(path),
        BearerToken("k3"),
        BearerToken.from_file(path),
        BearerToken(issuer.get),
    ):
        with sojourn.connect_sync(script.target, app="a", credentials=credentials) as client:
            client.sessions.get("s")
            client.with_options(app="b").sessions.create("s")
    words = [None, "Bearer k1", "Bearer k2", "Bearer k3", "Bearer k2", "Bearer t1"]
    assert sent(script) == [word for word in words for _ in range(2)]
    assert issuer.asked == 1, "a client with other options asks for no other token"


def test_a_key_that_was_said_once_and_is_refused_is_sent_once(script: Script) -> None:
    script.always = REFUSED
    with sojourn.connect_sync(script.target, app="a", credentials=ApiKey("k")) as client:
        with pytest.raises(errors.CredentialInvalidError):
            client.sessions.get("s")
    assert sent(script) == ["Bearer k"]


def test_a_key_that_was_exchanged_in_its_file_is_read_when_the_old_one_is_refused(
    script: Script, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text("old", encoding="ascii")
    key = ApiKey.from_file(path)
    with sojourn.connect_sync(script.target, app="a", credentials=key) as client:
        client.sessions.get("s")
        path.write_text("new", encoding="ascii")
        script.answers = [REFUSED]
        # Without a request id, which nothing else repeats: the server has done nothing.
        client.sessions.create("s", request_id="")
        client.sessions.get("s")
    assert sent(script) == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]


def test_a_refused_token_is_asked_for_again_and_the_call_sent_again_once(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An issuer that may be asked as often as calls like: what bounds a call is not its rest.
    monkeypatch.setattr(rules, "LOOK_EVERY", 0.0)
    token = BearerToken(Issuer().get)
    with sojourn.connect_sync(script.target, app="a", credentials=token) as client:
        script.answers = [REFUSED]
        client.sessions.get("s")
        assert sent(script) == ["Bearer t1", "Bearer t2"]
        script.seen.clear()
        script.always = REFUSED
        with pytest.raises(errors.CredentialInvalidError):
            client.sessions.get("s")
    assert sent(script) == ["Bearer t2", "Bearer t3"]


def test_calls_that_are_refused_together_ask_for_one_token(script: Script) -> None:
    issuer, t1 = Issuer(), "Bearer t1"
    token = BearerToken(issuer.get)
    with sojourn.connect_sync(script.target, app="a", credentials=token) as client:
        client.sessions.get("s")
        script.judge = lambda seen: REFUSED if seen.metadata["authorization"] == t1 else None
        results = sync_together(*[lambda: client.sessions.get("s") for _ in range(4)])
    assert all(isinstance(each, Session) for each in results), results
    assert issuer.asked == 2


def test_a_function_that_fails_sends_nothing(script: Script) -> None:
    def fail() -> str:
        raise OSError("the issuer is away: secret")

    with sojourn.connect_sync(script.target, app="a", credentials=BearerToken(fail)) as client:
        with pytest.raises(errors.CredentialUnavailableError, match="OSError") as caught:
            client.sessions.get("s")
    assert isinstance(caught.value.__cause__, OSError)
    assert "secret" not in str(caught.value)
    assert script.seen == []


def test_a_refusal_says_what_to_do(script: Script) -> None:
    script.always = reasoned(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING")
    with sojourn.connect_sync(script.target, app="a") as client:
        with pytest.raises(errors.CredentialMissingError):
            client.sessions.get("s")
    assert sent(script) == [None]


def test_asking_counts_into_the_deadline(script: Script) -> None:
    def get() -> str:
        sync_sleep(0.05)
        return "t"

    token = BearerToken(get)
    with sojourn.connect_sync(script.target, app="a", credentials=token, deadline=0.01) as client:
        with pytest.raises(errors.DeadlineExceededError):
            client.sessions.get("s")
    assert script.seen == []
