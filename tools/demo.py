"""`make demo`: a real server, recorded sessions, several agents at once, and a check of every byte.

    python -m tools.demo [FILE]

Starts `sojourn-server` on a free port of this machine with a database in a temporary folder, plays
FILE (examples/sessions.jsonl without one), prints what it took, reads everything back and compares
it with the file, stops the server and removes the folder. Meanwhile somebody watches the app, and
afterwards compares every change that came with what was written. The exit status is 0 only if every
message came back exactly, every change was seen once, and the server ended as it should.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APP = "demo"
SAMPLE = ROOT / "examples" / "sessions.jsonl"

AGENTS = 8
START_LIMIT = 30
"""Seconds until the server must answer."""
PLAY_LIMIT = 600
"""Seconds until everything must have been played and read back."""
STOP_LIMIT = 30
"""Seconds until the server must have ended."""


# Neither the server nor the command shall take settings from whoever runs the demo.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("SOJOURN_")}


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def tool(name: str) -> str:
    """Return the command that the distribution installed beside this interpreter."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise DemoError(f"{path} is not there: run `make setup` first")
    return str(path)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a server that keeps its data in the folder; hand out its address."""
    port_file, log = folder / "port", folder / "server.log"
    command = [
        tool("sojourn-server"),
        "--listen=127.0.0.1:0",
        f"--port-file={port_file}",
        f"--store=sqlite:///{folder / 'sojourn.db'}",
    ]
    with log.open("wb") as output:
        # In a session of its own: Ctrl-C is ours to handle, the server is told to stop below.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=ENVIRONMENT,
        )
    try:
        yield f"127.0.0.1:{wait_for_port(process, port_file, log)}"
    except BaseException:
        stop(process)
        raise
    code = stop(process)
    if code != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise DemoError(f"the server ended with status {code} instead of 0; its log:\n{tail}")


def wait_for_port(process: subprocess.Popen[bytes], port_file: Path, log: Path) -> int:
    """Return the port once the server answers there."""
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        text = port_file.read_text() if port_file.exists() else ""
        if text.strip():
            return int(text)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:]
    raise DemoError(f"the server did not start; its log:\n{tail}")


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the server to end, and return its status; after a while end it by force."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def play(target: str, file: Path) -> int:
    """Play and verify the file as a user would, with the command line; return its status."""
    command = [tool("sojourn"), "replay", str(file), "--verify", f"--agents={AGENTS}"]
    options = [f"--target={target}", f"--app={APP}", "--output=table"]
    process = subprocess.Popen([*command, *options], env=ENVIRONMENT)
    try:
        return process.wait(PLAY_LIMIT)
    except subprocess.TimeoutExpired:
        raise DemoError(f"the replay took more than {PLAY_LIMIT} s") from None
    finally:
        # After Ctrl-C the command has it too, and ends by itself; else it is told.
        for tell in (None, process.terminate, process.kill):
            if tell is not None:
                tell()
            try:
                process.wait(3)
                break
            except subprocess.TimeoutExpired:
                continue


def play_before_witness(target: str, file: Path) -> int:
    """Play the file while a watcher looks on; return the status, 1 if it did not see it all."""
    # Not above: most who import this module want a server, and no client.
    from sojourn import SojournError  # noqa: PLC0415
    from tools.witness import Witness  # noqa: PLC0415

    try:
        with Witness(target, APP) as witness:
            code = play(target, file)
            seen, problems = witness.verdict()
    except SojournError as error:
        raise DemoError(f"the watcher failed: {error}") from error
    print(f"The watcher saw {seen}.", flush=True)
    for problem in problems:
        print(f"demo: {problem}", file=sys.stderr)
    if problems:
        return code or 1
    print("It saw every change of the run once, in order, and they add up to what is stored.")
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=SAMPLE, help="recorded sessions")
    file = parser.parse_args(arguments).file
    # Who ends the demo in another way than with Ctrl-C shall leave no server behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not file.is_file():
        print(f"demo: there is no file {file}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="sojourn-demo-") as name:
            with server(Path(name)) as target:
                print(f"The server answers at {target}, its database is in {name}.", flush=True)
                code = play_before_witness(target, file)
            print("The server drained and ended with status 0.", flush=True)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; the server is stopped, the folder is removed", file=sys.stderr)
        return 130
    print("Everything came back, byte for byte." if code == 0 else "The demo failed.", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
