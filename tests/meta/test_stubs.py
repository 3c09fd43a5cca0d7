"""The generated stubs: light to import, and their rules enforced where protovalidate runs."""

import importlib
import pkgutil
import subprocess
import sys
import timeit
from collections.abc import Iterator
from types import ModuleType

import protovalidate
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import sojourn.v1
from sojourn.v1 import session_pb2

# The number of every extension in buf/validate/validate.proto, as the first bytes of an option.
RULE_TAG = b"\xba\x48"

# What only the server may cost. (grpc itself looks for its optional companions and loads them.)
SERVER_ONLY = {"aiosqlite", "buf", "click", "msgspec", "protobuf", "protovalidate", "structlog"}

IMPORT_STUBS = """
import importlib, pkgutil, sys
def load():
    import sojourn.v1
    for module in pkgutil.iter_modules(sojourn.v1.__path__):
        importlib.import_module(f"sojourn.v1.{module.name}")
"""

BREAK_A_RULE = """
from sojourn.v1 import session_pb2
key = session_pb2.SessionKey(app="a" * 129, session_id="s")
print(*(violation.proto.rule_id for violation in protovalidate.collect_violations(key)))
"""


def run(program: str) -> str:
    command = [sys.executable, "-c", IMPORT_STUBS + program]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def modules() -> list[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(sojourn.v1.__path__)]
    return [importlib.import_module(f"sojourn.v1.{name}") for name in names]


def messages() -> Iterator[Descriptor]:
    for module in modules():
        if hasattr(module, "DESCRIPTOR"):
            yield from module.DESCRIPTOR.message_types_by_name.values()


def test_stubs_load_nothing_beyond_the_clients_dependencies() -> None:
    loaded = run("load()\nprint(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "sojourn" in loaded
    assert SERVER_ONLY.isdisjoint(loaded)


def test_no_stub_depends_on_the_file_that_other_packages_ship() -> None:
    files = [module.DESCRIPTOR for module in modules() if hasattr(module, "DESCRIPTOR")]
    assert len(files) > 5
    dependencies = {dependency.name for file in files for dependency in file.dependencies}
    assert not {name for name in dependencies if name.startswith("buf/")}


@pytest.mark.parametrize(
    "order",
    ["load()\nimport protovalidate\n", "import protovalidate\nload()\n"],
    ids=["stubs first", "protovalidate first"],
)
def test_rules_are_enforced_in_either_import_order(order: str) -> None:
    assert run(order + BREAK_A_RULE) == "string.max_len"


def test_every_message_has_rules_that_compile() -> None:
    found = [GetMessageClass(descriptor) for descriptor in messages()]
    assert len(found) > 50
    for message in found:
        protovalidate.collect_violations(message())


def test_rules_survive_in_the_options() -> None:
    options = [
        field.GetOptions().SerializeToString()
        for descriptor in messages()
        for field in descriptor.fields
    ]
    assert sum(option.startswith(RULE_TAG) for option in options) > 50


def test_validation_costs_microseconds() -> None:
    key: Message = session_pb2.SessionKey(app="support", user="u-456", session_id="user-123")
    protovalidate.validate(key)
    seconds = min(timeit.repeat(lambda: protovalidate.validate(key), number=1000, repeat=5))
    assert seconds / 1000 < 200e-6
