"""The file of grants: whom it means, and what it refuses."""

from __future__ import annotations

import pytest

from sojourn_server.access import grants
from sojourn_server.access.files import BadFile
from sojourn_server.access.identity import Identity
from sojourn_server.domain.access import Grant, Role

FILE = b"""
[[grant]]
principal = "jwt:*"
app = "support"
user = "{subject}"
roles = ["write", "reset"]

[[grant]]
group = "operators"
app = "*"
user = "*"
roles = ["admin"]

[[grant]]
principal = "cert:agent-1.internal"
app = "support"
user = "*"
roles = ["read"]
"""


def of(name: str, *groups: str) -> set[Grant]:
    identity = Identity(name=name, groups=frozenset(groups))
    return set(grants.parse(FILE).grants(identity))


def test_grants_go_by_name_and_by_group():
    own = {Grant(Role.WRITE, "support", "{subject}"), Grant(Role.RESET, "support", "{subject}")}
    assert of("jwt:ann") == own
    assert of("jwt:ann", "operators", "others") == own | {Grant(Role.ADMIN, "*", "*")}
    assert of("cert:agent-1.internal") == {Grant(Role.READ, "support", "*")}


def test_who_is_not_named_gets_nothing():
    assert of("key:ann") == set()
    assert of("cert:agent-10internal") == set()  # a dot is a dot
    assert of("cert:jwt:ann") == set()
    assert of("jwt:ann", "Operators") - of("jwt:ann") == set()


def test_an_empty_file_grants_nothing():
    assert grants.parse(b"").grants(Identity(name="jwt:ann")) == []


@pytest.mark.parametrize(
    "text",
    [
        '[[grant]]\nprincipal = "a"\ngroup = "b"\napp = "*"\nuser = "*"\nroles = ["read"]',
        '[[grant]]\napp = "*"\nuser = "*"\nroles = ["read"]',
        '[[grant]]\nprincipal = "a"\napp = "*"\nuser = "*"\nroles = []',
        '[[grant]]\nprincipal = "a"\napp = "*"\nuser = "*"\nroles = ["root"]',
        '[[grant]]\nprincipal = "a"\napp = "*"\nroles = ["read"]',  # users are never implied
        '[[grant]]\nprincipal = ""\napp = "*"\nuser = "*"\nroles = ["read"]',
        '[[grant]]\nprincipal = "a"\napp = ""\nuser = "*"\nroles = ["read"]',
        '[[grant]]\nprincipal = "a"\napp = "*"\nuser = "*"\nroles = ["read"]\nrole = "x"',
        '[[grants]]\nprincipal = "a"\napp = "*"\nuser = "*"\nroles = ["read"]',
        "[[grant]",
        "\ufeff\x00",
    ],
)
def test_what_may_be_a_mistake_is_refused_in_a_sentence(text: str):
    with pytest.raises(BadFile, match=r"^grants_file: .*\.$"):
        grants.parse(text.encode())
