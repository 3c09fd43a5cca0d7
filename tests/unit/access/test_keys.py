"""API keys: made, checked, expired, revoked, and what their file may be."""

from __future__ import annotations

import stat
import time
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from sojourn_server.access import keys
from sojourn_server.access.files import BadFile
from sojourn_server.access.identity import BadCredential
from sojourn_server.access.keys import KeyFile, Keys
from sojourn_server.domain.access import Grant, Permission, Role

GRANTS = (Grant(Role.WRITE, "support"),)


def made(name: str = "ci", lifetime: timedelta | None = None) -> tuple[str, keys.Key]:
    return keys.make(name, GRANTS, lifetime, keys.utc_now())


def test_a_key_opens_what_it_was_granted():
    key, entry = made()
    identity, principal = Keys([entry]).check(key, time.time())
    assert identity.name == principal.name == "key:ci"
    assert identity.expires is None
    assert principal.users("support", Permission.WRITE).everyone
    assert principal.users("sales", Permission.READ).nobody


def test_a_file_holds_no_key(tmp_path: Path):
    key, entry = made()
    path = tmp_path / "keys.json"
    keys.write_file(path, KeyFile(keys=(entry,)))
    secret = key.rpartition("_")[2]
    assert secret.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]
    assert keys.parse(path.read_bytes()) == Keys([entry])


def test_keys_are_long_and_no_two_alike():
    found = {made()[0] for _ in range(100)}
    assert len(found) == 100
    assert all(len(key.split("_", 2)[2]) >= 43 for key in found)  # 256 bits


def test_a_name_may_have_several_keys_at_once():
    (first, old), (second, new) = made(), made()
    both = Keys([old, new])
    assert both.check(first, 0)[0].name == both.check(second, 0)[0].name == "key:ci"


@pytest.mark.parametrize(
    "damage",
    [
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("sj_", "sj_0", 1),
        lambda key: key[: key.rindex("_") + 1],
        lambda _: "sj_",
        lambda _: "",
        lambda key: key.upper(),
        lambda key: key + " ",
        lambda key: key * 50,
        lambda _: "sj_é_é",
    ],
)
def test_what_is_nearly_a_key_is_none(damage):
    key, entry = made()
    with pytest.raises(BadCredential) as refused:
        Keys([entry]).check(damage(key), 0)
    assert not refused.value.expired


def test_the_hash_is_no_key():
    _, entry = made()
    with pytest.raises(BadCredential):
        Keys([entry]).check(f"sj_{entry.id}_{entry.hash}", 0)


def test_a_key_expires():
    key, entry = made(lifetime=timedelta(hours=1))
    assert entry.expire_time is not None
    end = entry.expire_time.timestamp()
    found = Keys([entry])
    assert found.check(key, end - 1)[0].expires == end
    with pytest.raises(BadCredential) as refused:
        found.check(key, end)
    assert refused.value.expired


def test_a_revoked_key_stays_in_the_list_and_opens_nothing():
    (first, old), (second, new) = made(), made()
    file, revoked = keys.revoke(KeyFile(keys=(old, new)), [old.id], keys.utc_now())
    assert [key.id for key in revoked] == [old.id]
    found = Keys(file.keys)
    with pytest.raises(BadCredential):
        found.check(first, 0)
    assert found.check(second, 0)[0].name == "key:ci"
    assert [key.status(keys.utc_now()) for key in file.keys] == ["revoked", "live"]
    again, none = keys.revoke(file, [old.id], keys.utc_now())
    assert (again, none) == (file, [])


def test_by_name_all_keys_are_revoked():
    (_, old), (_, new), (_, other) = made(), made(), made("else")
    file, revoked = keys.revoke(KeyFile(keys=(old, new, other)), ["ci"], keys.utc_now())
    assert {key.id for key in revoked} == {old.id, new.id}
    assert [key.status(keys.utc_now()) for key in file.keys] == ["revoked", "revoked", "live"]
    with pytest.raises(LookupError):
        keys.revoke(file, ["nobody"], keys.utc_now())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"version": 2}',
        b'{"version": 1, "keys": [{}]}',
        b'{"version": 1, "other": 1}',
        b"\xff",
    ],
)
def test_a_file_that_is_none_is_refused_in_a_sentence(data: bytes):
    with pytest.raises(BadFile, match=r"^keys_file: .*\.$"):
        keys.parse(data)


def test_a_hash_that_is_none_or_an_id_twice_is_refused():
    _, entry = made()
    for bad in ("", "xyz", "00"):
        broken = KeyFile(keys=(msgspec.structs.replace(entry, hash=bad),))
        with pytest.raises(BadFile):
            keys.parse(msgspec.json.encode(broken))
    with pytest.raises(BadFile):
        keys.parse(msgspec.json.encode(KeyFile(keys=(entry, entry))))
