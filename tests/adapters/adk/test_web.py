"""ADK's own web server, `adk web` and `adk api_server`, on our sessions."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.adk.cli import service_registry
from google.adk.cli.fast_api import get_fast_api_app

import sojourn
from sojourn.adapters import adk
from tests.acceptance.kit import Place

# ADK says of its own credential service that it is new.
pytestmark = pytest.mark.filterwarnings(r"ignore:\[EXPERIMENTAL\]:UserWarning")

AGENT = """
from google.adk.agents.base_agent import BaseAgent
from google.adk.events.event import Event
from google.genai import types


class Echo(BaseAgent):
    async def _run_async_impl(self, ctx):
        part = types.Part(text="echo: " + ctx.user_content.parts[0].text)
        content = types.Content(role="model", parts=[part])
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=content)


root_agent = Echo(name="echo")
"""

KNOWN_BY = {
    "services.yaml": """
services:
  - scheme: sojourn
    type: session
    class: sojourn.adapters.adk.SojournSessionService
""",
    "services.py": """
from sojourn.adapters import adk

adk.register()
""",
}


@pytest.fixture
def agents(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder of agents, which ADK puts on Python's path; nothing is known to ADK before."""
    monkeypatch.setattr(service_registry, "_service_registry_instance", None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    name = request.param
    (tmp_path / name).write_text(KNOWN_BY[name])
    (tmp_path / "echo").mkdir()
    (tmp_path / "echo" / "__init__.py").write_text("")
    (tmp_path / "echo" / "agent.py").write_text(AGENT)
    importlib.invalidate_caches()
    yield tmp_path
    for module in ("services", "echo", "echo.agent"):
        if module not in known:
            sys.modules.pop(module, None)


@pytest.mark.parametrize("agents", KNOWN_BY, indirect=True)
async def test_adk_web_keeps_its_sessions_here(place: Place, agents: Path) -> None:
    """Made known by either file, it creates, runs, lists, patches and deletes them."""
    app = get_fast_api_app(
        agents_dir=str(agents), session_service_uri=f"sojourn://{place.target}", web=False
    )
    user = f"u-{agents.name}-{place.store}"
    path = f"/apps/echo/users/{user}/sessions"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"
    ) as web:
        made = answer(await web.post(path, json={"state": {"k": 1}}))
        assert made["state"] == {"k": 1}
        run = {
            "app_name": "echo",
            "user_id": user,
            "session_id": made["id"],
            "new_message": {"role": "user", "parts": [{"text": "hello"}]},
        }
        [said] = answer(await web.post("/run", json=run))
        assert said["content"]["parts"] == [{"text": "echo: hello"}]
        [listed] = answer(await web.get(path))
        assert (listed["id"], listed["events"]) == (made["id"], [])
        assert listed["lastUpdateTime"] == said["timestamp"]
        patched = answer(await web.patch(f"{path}/{made['id']}", json={"state_delta": {"k": 2}}))
        assert patched["state"] == {"k": 2}
        found = answer(await web.get(f"{path}/{made['id']}"))
        assert [one["author"] for one in found["events"]][:2] == ["user", "echo"]
        taken = await web.post(path, json={"session_id": made["id"]})
        assert taken.status_code == 409
        async with place.client("echo") as client:
            stored = await client.sessions.get(made["id"], user=user)
            assert stored.message_count == len(found["events"])
        answer(await web.delete(f"{path}/{made['id']}"))
        assert (await web.get(f"{path}/{made['id']}")).status_code == 404


def answer(response: Any) -> Any:
    """What was answered; it must be a success."""
    assert response.status_code == 200, response.text
    return response.json()


def test_both_schemes_are_registered() -> None:
    """`sojourn://` and `sojourn+tls://`, with what else ADK passes on; secrets in a URI are not."""
    registry = service_registry.ServiceRegistry()
    adk.register(registry)
    for scheme in ("sojourn", "sojourn+tls"):
        made = registry.create_session_service(
            f"{scheme}://localhost:7070", agents_dir="/agents", labels={"by": "web"}
        )
        assert isinstance(made, adk.SojournSessionService)
    with pytest.raises(sojourn.errors.ConfigurationError):
        registry.create_session_service("sojourn://key@localhost", agents_dir="/agents")
