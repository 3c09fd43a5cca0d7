"""The processes of a run: servers that are measured, and callers that make the load.

All of them listen on and call 127.0.0.1 only, and all end with the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.machine import Memory, cpu_seconds, memory

ROOT = Path(__file__).resolve().parent.parent
START_PATIENCE = 60.0
STOP_PATIENCE = 60.0
ANSWER_PATIENCE = 900.0
SETTLED_CPU = 0.003
"""A server that uses less CPU than this in `SETTLE_STEP` has finished what it put off."""
SETTLE_STEP = 0.1
SETTLE_MOST = 3.0


class Broken(Exception):
    """A process of the run failed; the text says which, and what it last said."""


def _environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without the variables that are settings of the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOJOURN_")}
    return {**kept, **(extra or {})}


class Server:
    """A server process under measurement."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.target = ""
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; it has no target yet."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def await_port(self, port_file: Path) -> None:
        """Wait until it has written its port.

        Raises:
            Broken: It ended, or took too long.
        """
        until = time.monotonic() + START_PATIENCE
        while not port_file.exists():
            self.check()
            if time.monotonic() > until:
                raise Broken(f"{self.name} did not start:\n{self.log()}")
            time.sleep(0.02)
        self.target = f"127.0.0.1:{port_file.read_text().strip()}"

    def check(self) -> None:
        """See that it is alive.

        Raises:
            Broken: It is not.
        """
        status = None if self._process is None else self._process.poll()
        if self._process is None or status is not None:
            raise Broken(f"{self.name} ended by itself ({status}):\n{self.log()}")

    def log(self) -> str:
        """The end of what it wrote."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")[-2_000:]

    def cpu(self) -> float:
        """CPU seconds used so far."""
        self.check()
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        """What it holds now."""
        self.check()
        return memory(self.pid)

    def settle(self) -> None:
        """Wait until it has done what it put off until after its answers."""
        until = time.monotonic() + SETTLE_MOST
        before = self.cpu()
        while time.monotonic() < until:
            time.sleep(SETTLE_STEP)
            now = self.cpu()
            if now - before < SETTLED_CPU:
                return
            before = now

    def stop(self) -> None:
        """End it: politely, then not."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_echo(folder: Path) -> Server:
    """Start the echo server."""
    port_file = folder / "echo.port"
    port_file.unlink(missing_ok=True)
    server = Server(
        "echo", [sys.executable, "-m", "bench.echo", "--port-file", str(port_file)], folder
    )
    server.start()
    server.await_port(port_file)
    return server


def start_sojourn(
    folder: Path,
    name: str = "sojourn",
    store: str = "",
    module: str = "sojourn_server",
    settings: Sequence[str] = (),
) -> Server:
    """Start the real server, durable as by default.

    Args:
        folder: For its files.
        name: What it is called.
        store: Its store; empty: `<name>.db` in the folder.
        module: What is run; another one may change the server first.
        settings: More flags.
    """
    port_file = folder / f"{name}.port"
    port_file.unlink(missing_ok=True)
    server = Server(
        name,
        [
            *(sys.executable, "-m", module),
            *("--listen", "127.0.0.1:0", "--port-file", str(port_file)),
            *("--store", store or f"sqlite:///{(folder / name).resolve()}.db"),
            *("--sqlite-synchronous", "FULL", "--log-level", "warning"),
            *settings,
        ],
        folder,
    )
    server.start()
    server.await_port(port_file)
    return server


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


class Worker:
    """A process that makes calls. It is told and answers in lines of JSON."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=_environment(extra),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def tell(self, **order: Any) -> None:
        """Send an order."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken("ended") from None

    def answer(self, patience: float = ANSWER_PATIENCE) -> dict[str, Any]:
        """Wait for the answer to the last order.

        Raises:
            Broken: There is none, or the order failed.
        """
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], patience)
        if not ready:
            raise self._broken("did not answer")
        line = self._process.stdout.readline()
        if not line:
            raise self._broken("ended")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Broken(f"{self.name}: {answer['failed']}")
        return answer

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        self.tell(**order)
        return self.answer()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _broken(self, how: str) -> Broken:
        return Broken(f"{self.name} {how}:\n{self._log.read_text(errors='replace')[-2_000:]}")


class Workers:
    """Several callers of one server, each in a process of its own."""

    def __init__(
        self, target: str, folder: Path, count: int, extra: Mapping[str, str] | None = None
    ) -> None:
        self._all = [
            Worker(
                f"caller-{target.rpartition(':')[2]}-{index}",
                [sys.executable, "-m", "bench.load", target, str(index)],
                folder,
                extra,
            )
            for index in range(count)
        ]

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def tell(self, **order: Any) -> None:
        """Tell all of them the same."""
        for worker in self._all:
            worker.tell(**order)

    def answers(self) -> list[dict[str, Any]]:
        """Wait for everybody's answer."""
        return [worker.answer() for worker in self._all]

    def ask(self, **order: Any) -> list[dict[str, Any]]:
        """Tell all of them the same and wait for all answers."""
        self.tell(**order)
        return self.answers()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._all:
            worker.close()
