"""What is deployed by files is what the server knows: its variables, its health names, its user."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from sojourn_server.command import command
from sojourn_server.domain.clock import SECOND
from sojourn_server.rpc.health import LIVE, WRITE
from sojourn_server.rpc.methods import services
from sojourn_server.settings import Settings, parse_length, table
from tests.meta.pages import ROOT

COMPOSE = ROOT / "docker-compose.yml"
KUBERNETES = ROOT / "deploy" / "kubernetes.yaml"
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
VARIABLES = {setting.variable: setting for setting in table()}
CLOSE: int = 5
"""Seconds that a server may need once its drain is over."""


def compose() -> dict[str, Any]:
    """The services of the compose file."""
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return services


def kubernetes(kind: str) -> list[dict[str, Any]]:
    """The manifest's objects of a kind."""
    objects = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    return [each for each in objects if each["kind"] == kind]


def pod() -> dict[str, Any]:
    """What the deployment makes pods of."""
    (deployment,) = kubernetes("Deployment")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def containers() -> dict[str, dict[str, Any]]:
    """Every container of the pod."""
    return {each["name"]: each for each in (*pod()["initContainers"], *pod()["containers"])}


def variables(container: dict[str, Any]) -> dict[str, str]:
    """What a container is told: compose has a mapping, Kubernetes a list."""
    told = container.get("environment") or container.get("env") or {}
    return dict(told) if isinstance(told, dict) else {each["name"]: each["value"] for each in told}


def every_container() -> list[Any]:
    ours = {name: each for name, each in compose().items() if name != "postgres"}
    found = [*ours.items(), *containers().items()]
    return [pytest.param(each, id=f"{name}-{index}") for index, (name, each) in enumerate(found)]


@pytest.mark.parametrize("container", every_container())
def test_a_container_is_told_what_the_server_knows(container: dict[str, Any]) -> None:
    told = {name: value for name, value in variables(container).items() if "SOJOURN" in name}
    assert told
    assert told.keys() <= VARIABLES.keys()
    named = {VARIABLES[name].name: _value(VARIABLES[name].kind.name, told[name]) for name in told}
    # The image listens beyond loopback, so each must say how it means that, unless it listens not.
    words = container.get("command") or container.get("args") or []
    if not words:
        named.setdefault("listen", "0.0.0.0:7070")
    Settings(**named)
    assert set(words) <= set(command().commands)


def _value(kind: str, text: str) -> Any:
    match kind:
        case "flag":
            return {"true": True, "false": False}[text]
        case "length":
            return parse_length(text)
        case "number":
            return int(text)
        case _:
            return text


def drain(container: dict[str, Any]) -> float:
    """How long a container's server may drain, in seconds."""
    told = variables(container).get("SOJOURN_DRAIN_TIMEOUT")
    return (parse_length(told) if told else Settings().drain_timeout) / SECOND


# --- compose -------------------------------------------------------------------------------------


def test_compose_holds_no_password_and_demands_one() -> None:
    for name in ("postgres", "migrate", "sojourn"):
        passwords = [v for k, v in variables(compose()[name]).items() if "PASSWORD" in k]
        assert passwords
        assert all(re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", each) for each in passwords)
    assert "@" not in variables(compose()["sojourn"])["SOJOURN_STORE"].replace("//sojourn@", "//")


def test_compose_publishes_to_this_machine_alone() -> None:
    assert compose()["sojourn"]["ports"] == ["127.0.0.1:7070:7070"]
    assert not any("ports" in compose()[name] for name in ("postgres", "migrate"))


def test_compose_migrates_once_the_database_is_well_and_serves_after_that() -> None:
    found = compose()
    assert found["migrate"]["command"] == ["migrate"]
    assert found["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    before = found["sojourn"]["depends_on"]["migrate"]["condition"]
    assert before == "service_completed_successfully"
    assert found["sojourn"]["healthcheck"]["test"] == ["CMD", "sojourn-server", "health"]
    assert "healthcheck" in found["postgres"]


def test_compose_waits_for_a_drain() -> None:
    server = compose()["sojourn"]
    assert parse_length(server["stop_grace_period"]) / SECOND >= drain(server) + CLOSE


# --- Kubernetes ----------------------------------------------------------------------------------


def test_probes_ask_for_names_that_health_knows() -> None:
    server = containers()["sojourn"]
    probes = {name: server[f"{name}Probe"]["grpc"] for name in ("startup", "readiness", "liveness")}
    assert {probe["service"] for probe in probes.values()} <= {"", WRITE, LIVE, *services()}
    # A restart brings no database back; and who cannot be read from gets no calls.
    assert probes["liveness"]["service"] == probes["startup"]["service"] == LIVE
    assert probes["readiness"]["service"] == ""
    port = int(variables(server)["SOJOURN_LISTEN"].rpartition(":")[2])
    assert {probe["port"] for probe in probes.values()} == {port}
    assert {"name": "grpc", "containerPort": port} in server["ports"]


def test_servers_ask_who_calls() -> None:
    server = containers()["sojourn"]
    path = variables(server)["SOJOURN_KEYS_FILE"]
    mounted = {each["mountPath"]: each["name"] for each in server["volumeMounts"]}
    folder, _, name = path.rpartition("/")
    (volume,) = [each for each in pod()["volumes"] if each["name"] == mounted[folder]]
    assert volume["secret"]["secretName"] == "sojourn-keys"
    assert f"--from-file={name}" in KUBERNETES.read_text(encoding="utf-8")


def test_nobody_is_root_nor_writes_the_root() -> None:
    whole = pod()["securityContext"]
    assert whole["runAsNonRoot"]
    assert f"USER {whole['runAsUser']}:{whole['runAsGroup']}" in DOCKERFILE
    for container in containers().values():
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_kubernetes_waits_for_a_drain() -> None:
    server = containers()["sojourn"]
    pause = float(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod()["terminationGracePeriodSeconds"] >= pause + drain(server) + CLOSE


def test_connection_strings_come_from_secrets_and_only_the_migration_has_the_owner_s() -> None:
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod()["volumes"]}
    assert secrets.pop("keys") == "sojourn-keys"
    assert secrets == {"store": "sojourn-store", "owner": "sojourn-store-owner"}
    for name, volume in (("migrate", "owner"), ("sojourn", "store")):
        (mount,) = [each for each in containers()[name]["volumeMounts"] if each["name"] in secrets]
        assert mount["name"] == volume
        told = variables(containers()[name])["SOJOURN_STORE_FILE"]
        assert told == f"{mount['mountPath']}/url"


def test_one_server_stays_whatever_is_disrupted() -> None:
    (deployment,) = kubernetes("Deployment")
    (budget,) = kubernetes("PodDisruptionBudget")
    assert deployment["spec"]["replicas"] > budget["spec"]["minAvailable"] >= 1


def test_every_selector_selects_the_pods() -> None:
    (deployment,) = kubernetes("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    (budget,) = kubernetes("PodDisruptionBudget")
    (policy,) = kubernetes("NetworkPolicy")
    selectors = [each["spec"]["selector"] for each in kubernetes("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in (deployment, budget)]
    selectors.append(policy["spec"]["podSelector"]["matchLabels"])
    assert all(each == labels for each in selectors)
    assert [each["spec"].get("clusterIP") for each in kubernetes("Service")] == [None, "None"]
