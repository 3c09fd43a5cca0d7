"""The image as its users run it.

Skipped, with the reason, where it cannot be built: without an engine, without the base on this
machine, or without a way to the package index. `make smoke-image` skips nothing of this: it builds,
and names what it has built.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sojourn
from tests.image.boxes import Box
from tools.image import BUILD_LIMIT, NAME, Engine, choose, default_base

# pip's words whenever it cannot reach an index, whatever lies in between.
OFFLINE = "connection broken by"
USER = "10001"

pytestmark = pytest.mark.timeout(BUILD_LIMIT + 120)


@pytest.fixture(scope="session")
def engine() -> Engine:
    wanted = os.environ.get("SOJOURN_ENGINE", "")
    found = choose(wanted)
    if found is None:
        pytest.skip(f"no container engine answers here: {wanted or 'docker, podman or buildah'}")
    return found


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image that `make smoke-image` has built, or one that is built here and now."""
    named = os.environ.get("SOJOURN_IMAGE", "")
    if named:
        assert engine.inspect(named) is not None, f"{engine.name} has no image {named}"
        return named
    if engine.inspect(base := default_base()) is None:
        pytest.skip(f"{engine.name} has no {base} yet: `make smoke-image` fetches it")
    built = subprocess.run(
        engine.build_command(NAME, base, ()),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_LIMIT,
    )
    said = built.stdout + built.stderr
    if built.returncode != 0 and OFFLINE in said:
        pytest.skip("pip reaches no package index from inside a build")
    assert built.returncode == 0, said[-4_000:]
    return NAME


@pytest.fixture
def box(engine: Engine, image: str, tmp_path: Path) -> Iterator[Box]:
    with Box(engine, image, f"sojourn-smoke-{os.getpid()}", tmp_path) as made:
        yield made


def create(target: str, session_id: str) -> None:
    with sojourn.connect_sync(target, app="smoke") as client:
        created = client.sessions.create(session_id, user="u")
        client.messages.append(created.ref, sojourn.NewMessage("user", "kept"))


def first_message(target: str, session_id: str) -> str | None:
    with sojourn.connect_sync(target, app="smoke") as client:
        found = client.sessions.get(session_id, user="u", last_messages=1)
    return found.messages[0].content


def test_it_does_not_listen_beyond_loopback_unasked(box: Box) -> None:
    ended = box.once()
    assert ended.returncode == 2, ended.stderr
    assert "0.0.0.0:7070 can be reached from elsewhere: set tls_cert" in ended.stderr


def test_it_serves_drains_and_finds_its_sessions_again(box: Box) -> None:
    with box.serve("--insecure") as server:
        create(server.target, "s-1")
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 10
        assert '"event": "stopped"' in server.log()
    with box.serve("--insecure") as server:
        assert first_message(server.target, "s-1") == "kept"
        assert server.terminate() == 0


def test_its_health_check_works(box: Box) -> None:
    with box.serve("--insecure") as server:
        healthy = server.inside(*server.health_command())
        assert healthy.returncode == 0, healthy.stderr
        assert healthy.stdout.strip().endswith(": SERVING")
        nobody_there = server.inside(*server.health_command(), "--target", "127.0.0.1:1")
        assert nobody_there.returncode == 1, nobody_there.stderr


def test_it_runs_as_a_numbered_user_who_may_write_to_data_alone(box: Box) -> None:
    assert box.config()["User"] == f"{USER}:{USER}"
    asked = "id -u; for each in / /etc /opt/sojourn /data; do test -w $each && echo $each; done"
    assert box.once("-c", asked, entrypoint="sh").stdout.split() == [USER, "/data"]


def test_it_holds_no_pip_and_no_source_beside_what_it_runs(box: Box) -> None:
    asked = "import importlib.util as u; print([n for n in ('pip', 'hatchling') if u.find_spec(n)])"
    assert box.once("-c", asked, entrypoint="/opt/sojourn/bin/python").stdout.strip() == "[]"
    left = box.once("-d", "/src", "/wheels", "/opt/build", entrypoint="ls").stdout
    assert not left


def test_data_that_it_may_not_write_to_is_said_in_a_sentence(box: Box) -> None:
    # As an engine makes a folder that is not there yet.
    like_root = ("--directory", "--owner=0", "--group=0", "--mode=0755")
    given_away = box.once(*like_root, "/data", entrypoint="install", user="0")
    assert given_away.returncode == 0, given_away.stderr
    # Its own address: what is refused first would be that it can be reached.
    ended = box.once("--listen", "127.0.0.1:0")
    assert ended.returncode == 3, ended.stderr
    assert "sojourn-server: " in ended.stderr
    assert "/data" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_is_the_first_process_and_ends_by_the_signal(box: Box) -> None:
    if box.changed_root:
        pytest.skip("buildah's changed root has the machine's processes: no first one of its own")
    with box.serve("--insecure") as server:
        first = server.inside("cat", "/proc/1/cmdline").stdout.replace("\0", " ")
        assert first.split()[1].endswith("/sojourn-server")
        assert server.terminate() == 0


def test_a_read_only_root_is_enough(box: Box) -> None:
    if box.changed_root:
        pytest.skip("buildah run cannot make the root read-only")
    with box.serve("--insecure", read_only=True) as server:
        assert server.inside("touch", "/tmp/x").returncode != 0
        create(server.target, "s-1")
        assert first_message(server.target, "s-1") == "kept"
        assert server.inside(*server.health_command()).returncode == 0
        assert server.terminate() == 0
