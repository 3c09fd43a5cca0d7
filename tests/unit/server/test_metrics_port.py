"""The port of the metrics: off, taken, freed, logged, and its readers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import sojourn
from sojourn_server import logs
from sojourn_server.app import CannotListen, RunningServer, start
from sojourn_server.metrics import page as page_server
from sojourn_server.metrics import server as looks
from sojourn_server.settings import SettingsError
from tests.unit.server.scrape import fetch, page, settings_in


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    monkeypatch.setattr(looks, "PERIOD", 0.02)
    running = await start(settings_in(tmp_path))
    yield running
    await running.stop(0.1)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[sojourn.AsyncClient]:
    async with sojourn.connect(server.target, app="a") as made:
        yield made


async def test_without_the_setting_there_is_no_port(tmp_path: Path) -> None:
    running = await start(settings_in(tmp_path, metrics_listen=None))
    assert running.metrics_port is None
    await running.stop(0)


def test_without_the_setting_nothing_of_it_is_imported(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from sojourn_server.app import start\n"
        "from sojourn_server.settings import Settings\n"
        "async def main():\n"
        f"    settings = Settings(listen='127.0.0.1:0', store='sqlite:///{tmp_path}/s.db')\n"
        "    await (await start(settings)).stop(0)\n"
        "asyncio.run(main())\n"
        "assert 'prometheus_client' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_a_stopped_server_has_left_its_metrics_port(tmp_path: Path) -> None:
    running = await start(settings_in(tmp_path))
    port = running.metrics_port
    assert port is not None
    await page(running)
    await running.stop(0)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, port)


async def test_a_taken_port_fails_with_a_sentence_and_frees_everything(
    server: RunningServer, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    taken = f"127.0.0.1:{server.metrics_port}"
    with pytest.raises(CannotListen, match=f"cannot listen on {taken}: Address already in use"):
        await start(settings_in(folder, metrics_listen=taken))
    again = await start(settings_in(folder))
    await again.stop(0)


async def test_the_port_of_the_calls_is_no_port_for_metrics(
    server: RunningServer, tmp_path: Path
) -> None:
    port = server.port
    await server.stop(0)
    both = f"127.0.0.1:{port}"
    with pytest.raises(CannotListen, match="already in use"):
        await start(settings_in(tmp_path, listen=both, metrics_listen=both))
    again = await start(settings_in(tmp_path, listen=both))
    await again.stop(0)


async def test_the_start_is_logged_with_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs.Log, "sink", logs._logger("info", "json"))
    running = await start(settings_in(tmp_path))
    await running.stop(0)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (started,) = [line for line in lines if line["event"] == "started"]
    assert started["metrics"] == f"127.0.0.1:{running.metrics_port}"


async def test_a_start_that_fails_late_leaves_the_port(
    server: RunningServer, tmp_path: Path
) -> None:
    listen = f"127.0.0.1:{server.metrics_port}"
    await server.stop(0)
    nowhere = tmp_path / "missing" / "port"
    with pytest.raises(SettingsError, match="port_file"):
        await start(settings_in(tmp_path, metrics_listen=listen, port_file=nowhere))
    again = await start(settings_in(tmp_path, metrics_listen=listen))
    await again.stop(0)


async def test_metrics_are_served_on_the_other_loopback_too(tmp_path: Path) -> None:
    try:
        running = await start(settings_in(tmp_path, metrics_listen="[::1]:0"))
    except CannotListen:
        pytest.skip("this machine has no IPv6")
    text = await asyncio.to_thread(fetch, running.metrics_port or 0, host="[::1]")
    await running.stop(0)
    assert "sojourn_build_info" in text


async def test_a_silent_reader_is_sent_away_without_a_trace(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert page_server._Handler.timeout == page_server.PATIENCE
    monkeypatch.setattr(page_server._Handler, "timeout", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.metrics_port)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert "Traceback" not in capfd.readouterr().err


async def test_a_reading_does_not_hold_up_calls(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    """A reader that says nothing more holds its own thread and nobody else's."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.metrics_port)
    writer.write(b"GET /metrics HTTP/1.1\r\n")
    await writer.drain()
    async with asyncio.timeout(5):
        await client.sessions.create("s")
        await page(server)
    writer.close()
    await writer.wait_closed()
