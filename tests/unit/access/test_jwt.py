"""What a JWT must be to prove anything, and who it then says its bearer is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sojourn_server.access.identity import BadCredential
from tests.unit.access.issuer import (
    AUDIENCE,
    RULES,
    Private,
    Shelf,
    claims,
    document,
    down,
    ec_key,
    ed_key,
    forge,
    jwk,
    rsa_key,
    signer,
    token,
    verifier,
)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(rsa_key(), "RS256"), (rsa_key(), "PS256"), (ec_key(), "ES256"), (ed_key(), "EdDSA")],
    ids=["RS256", "PS256", "ES256", "EdDSA"],
)
async def test_a_good_token_says_who_its_bearer_is(key: Private, algorithm: str):
    verify = await verifier(jwk(key))
    now = int(time.time())
    identity = await verify.verify(token(key, algorithm, groups=["ops", "dev"], exp=now + 600))
    assert identity.name == "jwt:alice"
    assert identity.subject == "alice"
    assert identity.groups == {"ops", "dev"}
    assert identity.expires == now + 600 + RULES.leeway


@pytest.mark.parametrize("subject", ["bob", "Ünï ©", "auth0|5f", "a" * 200, "*", "jwt:root"])
async def test_a_subject_is_taken_as_it_is(subject: str):
    verify = await verifier(jwk(ec_key()))
    identity = await verify.verify(token(sub=subject))
    assert (identity.name, identity.subject) == (f"jwt:{subject}", subject)


async def test_a_token_for_several_audiences_is_taken_where_this_server_is_one():
    verify = await verifier(jwk(ec_key()))
    await verify.verify(token(aud=["other", AUDIENCE]))
    with pytest.raises(BadCredential):
        await verify.verify(token(aud=["other", "more"]))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_a_token_may_say_that_it_is_one(kind: str):
    verify = await verifier(jwk(ec_key()))
    await verify.verify(token(headers={"kid": "k1", "typ": kind}))


async def test_a_token_need_not_say_that_it_is_one():
    verify = await verifier(jwk(ec_key()))
    await verify.verify(forge({"alg": "ES256", "kid": "k1"}, claims(), signer()))


async def test_clocks_may_differ_by_the_leeway_and_no_more():
    verify = await verifier(jwk(ec_key()))
    now = int(time.time())
    await verify.verify(token(exp=now - 20))
    await verify.verify(token(nbf=now + 20, iat=now + 20))
    for bad in (token(exp=now - 31), token(nbf=now + 40), token(iat=now + 40)):
        with pytest.raises(BadCredential):
            await verify.verify(bad)


async def test_without_leeway_a_token_ends_with_its_second():
    verify = await verifier(jwk(ec_key()), rules=RULES._replace(leeway=0.0))
    with pytest.raises(BadCredential) as caught:
        await verify.verify(token(exp=int(time.time()) - 1))
    assert caught.value.expired


async def test_only_what_was_good_once_is_called_expired():
    verify = await verifier(jwk(ec_key()))
    past = int(time.time()) - 100
    with pytest.raises(BadCredential) as caught:
        await verify.verify(token(exp=past))
    assert caught.value.expired
    with pytest.raises(BadCredential) as caught:
        await verify.verify(token(ec_key("attacker"), exp=past))
    assert not caught.value.expired


@pytest.mark.parametrize(
    ("groups", "found"),
    [("ops", {"ops"}), ("a b", {"a b"}), (["x", "y", "x"], {"x", "y"}), ([], set())],
    ids=str,
)
async def test_groups_are_a_name_or_a_list_of_names(groups: Any, found: set[str]):
    verify = await verifier(jwk(ec_key()))
    assert (await verify.verify(token(groups=groups))).groups == found


@pytest.mark.parametrize(
    "groups", [7, True, {"ops": True}, ["ops", 7], [["ops"]], "", [""], ["a\nb"], ["x" * 201]]
)
async def test_groups_that_are_no_names_refuse_the_token(groups: Any):
    verify = await verifier(jwk(ec_key()))
    with pytest.raises(BadCredential) as caught:
        await verify.verify(token(groups=groups))
    assert caught.value.why == "groups"


async def test_groups_stand_in_the_claim_that_the_setting_names():
    verify = await verifier(jwk(ec_key()), rules=RULES._replace(groups_claim="roles"))
    assert (await verify.verify(token(groups="wrong", roles="right"))).groups == {"right"}
    none = await verifier(jwk(ec_key()), rules=RULES._replace(groups_claim=""))
    assert (await none.verify(token(groups="wrong"))).groups == frozenset()


async def test_a_token_without_a_key_id_needs_a_set_in_which_one_key_fits():
    alone = await verifier(jwk(ec_key(), None), jwk(rsa_key(), None))
    await alone.verify(token(headers={}))
    several = await verifier(jwk(ec_key(), "k1"), jwk(ec_key("two"), "k2"))
    await several.verify(token())
    with pytest.raises(BadCredential) as caught:
        await several.verify(token(headers={}))
    assert caught.value.why == "several keys fit"


async def test_a_key_id_that_two_keys_have_finds_the_one_that_fits():
    verify = await verifier(jwk(ec_key(), "k1"), jwk(rsa_key(), "k1"))
    await verify.verify(token())
    await verify.verify(token(rsa_key(), "RS256"))


# --- what is remembered -------------------------------------------------------------------------


async def test_a_good_token_is_known_from_then_on():
    verify = await verifier(jwk(ec_key()))
    good = token()
    assert verify.known(good) is None
    identity = await verify.verify(good)
    assert verify.known(good) == identity
    assert verify.known(good[:-1]) is None


async def test_a_bad_token_is_never_known():
    verify = await verifier(jwk(ec_key()))
    bad = token(ec_key("attacker"))
    for _ in range(2):
        with pytest.raises(BadCredential):
            await verify.verify(bad)
        assert verify.known(bad) is None


async def test_a_token_is_known_until_it_ends():
    times = [time.time()]
    verify = await verifier(jwk(ec_key()), clock=lambda: times[0])
    good = token(exp=int(times[0]) + 60)
    identity = await verify.verify(good)
    assert identity.expires is not None
    times[0] = identity.expires - 0.001
    assert verify.known(good) is not None
    times[0] = identity.expires
    assert verify.known(good) is None
    times[0] -= 1
    assert verify.known(good) is None, "what has ended is forgotten"


async def test_a_token_is_known_while_its_key_is_there():
    verify = await verifier(jwk(ec_key("old"), "old"), jwk(ec_key("new"), "new"))
    shelf = verify.keys._source
    assert isinstance(shelf, Shelf)
    old = token(ec_key("old"), headers={"kid": "old"})
    new = token(ec_key("new"), headers={"kid": "new"})
    await verify.verify(old)
    await verify.verify(new)
    shelf.document = document(jwk(ec_key("new"), "new"))
    await verify.keys.read()
    assert verify.known(old) is None
    assert verify.known(new) is not None
    with pytest.raises(BadCredential):
        await verify.verify(old)


async def test_a_token_is_not_known_by_another_key_of_the_same_name():
    verify = await verifier(jwk(ec_key()))
    shelf = verify.keys._source
    assert isinstance(shelf, Shelf)
    good = token()
    await verify.verify(good)
    shelf.document = document(jwk(ec_key("another")))
    await verify.keys.read()
    assert verify.known(good) is None
    with pytest.raises(BadCredential):
        await verify.verify(good)


async def test_keys_that_cannot_be_had_any_more_leave_what_is_known():
    verify = await verifier(jwk(ec_key()))
    good = token()
    await verify.verify(good)
    shelf = verify.keys._source
    assert isinstance(shelf, Shelf)
    shelf.document = down()
    await verify.keys.read()
    assert verify.known(good) is not None
    await verify.verify(token(sub="bob"))


async def test_no_more_tokens_are_remembered_than_were_allowed():
    verify = await verifier(jwk(ec_key()), remembered=2)
    first, second, third = (token(sub=name) for name in "abc")
    await verify.verify(first)
    await verify.verify(second)
    assert verify.known(first)
    await verify.verify(third)
    assert [verify.known(each) is not None for each in (first, second, third)] == [
        True,
        False,
        True,
    ]


async def test_memory_holds_no_tokens():
    verify = await verifier(jwk(ec_key()))
    good = token()
    await verify.verify(good)
    signature = good.rpartition(".")[2]
    assert signature not in repr(vars(verify))
