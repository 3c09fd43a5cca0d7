"""Peers: google-adk's session services in-process, and etcd through the same kind of client."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from bench.calls import LAST, READ_MESSAGES, TEXT
from bench.environment import peers_python
from bench.measure import PROCESSES, Rig, Series
from bench.plan import Plan
from bench.processes import (
    ROOT,
    START_PATIENCE,
    Broken,
    Server,
    Worker,
    Workers,
    free_ports,
    start_echo,
    start_sojourn,
)
from bench.results import Results

SERVICES = {"database": "DatabaseSessionService", "sqlite": "SqliteSessionService"}
CALLS = {
    "create": "create",
    "append": "append one message",
    "get": "get, no messages",
    "get_full": f"get with the last {LAST} messages",
}
ADK_CALLERS = (1, 8, 64)
WARM = 4
Say = Callable[[str], None]


def measure_adk(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """Calls per second: Sojourn's over ADK's, in interleaved rounds."""
    say("google-adk: making its environment")
    python = peers_python(results)
    if python is None:
        return
    peer = Worker("adk", [str(python), "-m", "bench.adk_peer", str(folder)], folder)
    try:
        say("google-adk: filling its sessions")
        peer.ask(text=TEXT, last=LAST, messages=READ_MESSAGES, services=list(SERVICES))
        with (
            start_sojourn(folder, "peers") as server,
            Workers(server.target, folder, PROCESSES) as workers,
        ):
            _compare_adk(plan, Rig(server, workers), peer, results, say)
    except Broken as error:
        results.skipped.append(f"google-adk: {error}")
    finally:
        peer.close()


def _compare_adk(plan: Plan, rig: Rig, peer: Worker, results: Results, say: Say) -> None:
    ours: dict[str, Series] = {call: Series() for call in CALLS}
    theirs: dict[tuple[str, str], list[float]] = {
        (service, call): [] for service in SERVICES for call in CALLS
    }
    callers: dict[tuple[str, str], int] = {}
    for call in CALLS:
        rig.measure(call, WARM)
    for number in range(plan.rounds):
        say(f"google-adk, round {number + 1} of {plan.rounds}")
        for call in CALLS:
            ours[call].add(rig.measure(call, plan.calls))
            for service in SERVICES:
                # The first round finds out how many callers at once serve it best.
                at_once = callers.get((service, call))
                answer = peer.ask(
                    service=service,
                    call=call,
                    seconds=plan.peer_seconds,
                    callers=[at_once] if at_once else ADK_CALLERS,
                )
                callers[service, call] = answer["callers"]
                theirs[service, call].append(answer["rate"])
    for service, title in SERVICES.items():
        for call, what in CALLS.items():
            rates = theirs[service, call]
            ratios = [
                mine.rate / rate
                for mine, rate in zip(ours[call].samples, rates, strict=True)
                if rate
            ]
            if not ratios:
                results.skipped.append(f"google-adk {title}: {what}: it failed, see its log")
                continue
            results.add(
                "google-adk",
                f"adk {service} {call}",
                f"calls per second over {title}: {what}",
                ratios,
                value=statistics.median(ratios),
                facts={
                    "rate": round(ours[call].rate, 1),
                    "peer_rate": round(statistics.median(rates), 1),
                    "peer_callers": callers[service, call],
                },
            )


def measure_etcd(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """etcd's put and get: server CPU time against echo's, and calls per second."""
    binary = shutil.which("etcd")
    if binary is None:
        results.skipped.append("etcd: not installed (Debian: etcd-server)")
        return
    stubs = _make_stubs(folder)
    if stubs is None:
        results.skipped.append("etcd: its stubs could not be made; run `make setup`")
        return
    say("etcd: starting")
    with (
        start_echo(folder) as floor,
        _start_etcd(binary, folder) as etcd,
        start_sojourn(folder, "beside-etcd") as sojourn,
        Workers(floor.target, folder, PROCESSES) as floor_workers,
        Workers(etcd.target, folder, PROCESSES, _with_stubs(stubs)) as etcd_workers,
        Workers(sojourn.target, folder, PROCESSES) as workers,
    ):
        echo, peer = Rig(floor, floor_workers), Rig(etcd, etcd_workers)
        ours = Rig(sojourn, workers)
        pairs = {"etcd_put": "create", "etcd_get": "get"}
        series = {name: Series() for pair in pairs.items() for name in pair}
        for name, mine in pairs.items():
            peer.measure(name, WARM)
            ours.measure(mine, WARM)
        for number in range(plan.rounds):
            say(f"etcd, round {number + 1} of {plan.rounds}")
            for name, mine in pairs.items():
                base = echo.measure("echo", plan.calls).cpu_us
                series[name].add(peer.measure(name, plan.calls), base)
                series[mine].add(ours.measure(mine, plan.calls), base)
        titles = {"etcd_put": "put", "etcd_get": "get"}
        for name, mine in pairs.items():
            theirs, mine_series = series[name], series[mine]
            results.add(
                "etcd",
                name,
                f"etcd {titles[name]} over echo",
                theirs.ratios,
                value=theirs.ratio,
                facts=theirs.facts,
            )
            ratios = [
                a.cpu_us / b.cpu_us
                for a, b in zip(mine_series.samples, theirs.samples, strict=True)
            ]
            results.add(
                "etcd",
                f"{mine} over {name}",
                f"Sojourn's {mine} over etcd's {titles[name]}",
                ratios,
                value=statistics.median(ratios),
                facts=mine_series.facts,
            )


def _make_stubs(folder: Path) -> Path | None:
    """Generate the client for etcd; None when the generator is not there."""
    python = ROOT / ".venv-gen" / "bin" / "python"
    if not python.exists():
        return None
    stubs = folder / "stubs"
    stubs.mkdir(exist_ok=True)
    done = subprocess.run(
        [
            *(python, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'bench'}"),
            *(f"--python_out={stubs}", f"--grpc_python_out={stubs}", "etcd_kv.proto"),
        ],
        check=False,
        stdout=sys.stderr,
    )
    return stubs if done.returncode == 0 else None


def _with_stubs(stubs: Path) -> dict[str, str]:
    """The variable by which a worker finds the stubs."""
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{stubs}{os.pathsep}{before}" if before else str(stubs)}


def _start_etcd(binary: str, folder: Path) -> Server:
    client, peer = free_ports(2)
    ours, theirs = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    server = Server(
        "etcd",
        [
            *(binary, "--data-dir", str((folder / "etcd").resolve()), "--name", "bench"),
            *("--listen-client-urls", ours, "--advertise-client-urls", ours),
            *("--listen-peer-urls", theirs, "--initial-advertise-peer-urls", theirs),
            *("--initial-cluster", f"bench={theirs}", "--log-level", "error"),
        ],
        folder,
    )
    server.start()
    server.target = f"127.0.0.1:{client}"
    until = time.monotonic() + START_PATIENCE
    with grpc.insecure_channel(server.target) as channel:
        while time.monotonic() < until:
            server.check()
            try:
                grpc.channel_ready_future(channel).result(timeout=1)
            except grpc.FutureTimeoutError:
                continue
            # It answers once it has elected itself.
            time.sleep(1)
            return server
    server.stop()
    raise Broken(f"etcd did not start:\n{server.log()}")
