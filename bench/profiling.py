"""Where the server's time goes during one kind of call.

Two readings of the same seconds: the operating system's CPU time of each thread, and
py-spy's samples of what held the interpreter. What C code does without the interpreter
is in the first only.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environment import FOLDER, peers_python
from bench.machine import ThreadUse, cpu_seconds, threads
from bench.measure import PROCESSES, Rig
from bench.processes import Broken, Server, Workers, start_echo, start_sojourn
from bench.results import Results

SECONDS = 10
SAMPLES_PER_SECOND = 250
ONCE = {"begin_turn", "end_turn", "end_session"}
CALLS_ONCE = 600
"""Of each caller, where every call needs a session of its own: enough for the whole profile."""
CALLS = 100
"""Of each caller, run again until the profile is done."""
LEAST = 0.002
"""A thread with less than this part of the CPU time is left out."""
_THREAD = re.compile(r"^thread \((?P<tid>\d+)\):? ?(?P<name>.*)$")
_LINE = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


@dataclass(frozen=True)
class Share:
    """A function, or a thread, and its part of the whole."""

    name: str
    own: float
    total: float


@dataclass(frozen=True)
class Profile:
    """What was found."""

    cpu_us: float
    """Server CPU time per call."""
    threads: list[Share]
    """By the operating system's CPU time."""
    switches: float
    """How often a thread gave up its processor, or lost it, per call."""
    functions: list[Share]
    """By the samples that held the interpreter, own time first."""


def profile(job: str, folder: Path, out: Path, say: Callable[[str], None]) -> Profile:
    """Record a profile into `out`, and say what is in it.

    Raises:
        Broken: py-spy is not there, or it may not look into the server.
    """
    missing = Results()
    if peers_python(missing) is None:
        raise Broken(missing.skipped[0])
    path = out / f"profile-{job}.txt"
    with (
        start_echo(folder) if job == "echo" else start_sojourn(folder, "profiled") as server,
        Workers(server.target, folder, PROCESSES) as workers,
    ):
        rig = Rig(server, workers)
        say(f"profile: making ready for {job}")
        rig.measure(job, 4)
        rig.prepare(job, CALLS_ONCE if job in ONCE else CALLS)
        say(f"profile: {job} for {SECONDS} s")
        before, whole = threads(server.pid), cpu_seconds(server.pid)
        spy = _start_spy(server, path)
        calls = _count(workers.ask(do="run"))
        while spy.poll() is None and job not in ONCE:
            calls += _count(workers.ask(do="run"))
        whole = cpu_seconds(server.pid) - whole
        used = {tid: use.since(before.get(tid)) for tid, use in threads(server.pid).items()}
        said, _ = spy.communicate(timeout=SECONDS + 60)
        if spy.returncode != 0 or not path.exists():
            raise Broken(f"py-spy: {said[-500:]}")
    folded = path.read_text(encoding="utf-8")
    return Profile(
        cpu_us=whole / calls * 1e6,
        threads=_threads(used, whole, folded),
        switches=sum(use.switches for use in used.values()) / calls,
        functions=shares(folded),
    )


def _count(answers: list[dict[str, Any]]) -> int:
    return sum(len(answer["latencies"]) for answer in answers)


def _start_spy(server: Server, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(str(FOLDER / "bin" / "py-spy"), "record", "--pid", str(server.pid)),
            *("--rate", str(SAMPLES_PER_SECOND), "--duration", str(SECONDS)),
            # Nonblocking: to stop the server for each sample would change what is measured.
            *("--format", "raw", "--threads", "--nolineno", "--gil", "--nonblocking"),
            *("--output", str(path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _threads(used: Mapping[int, ThreadUse], whole: float, folded: str) -> list[Share]:
    """Each thread's part of the CPU time, with how much of its own was the kernel's."""
    names = {
        int(found["tid"]): found["name"]
        for line in folded.splitlines()
        if (found := _THREAD.match(line.partition(";")[0]))
    }
    parts: list[Share] = []
    for tid, use in used.items():
        if use.seconds > whole * LEAST:
            name = names.get(tid) or f"{use.name} (no Python)"
            kernel = f"{use.kernel / use.seconds:.0%} of it in the kernel"
            parts.append(Share(f"{name}, {kernel}", use.seconds / whole, use.seconds / whole))
    return sorted(parts, key=lambda share: -share.own)


def shares(folded: str) -> list[Share]:
    """The functions of a folded profile (`thread;outer;inner count`), most own time first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in folded.splitlines():
        stack, _, count_text = line.rpartition(" ")
        if not count_text.isdigit():
            continue
        count = int(count_text)
        names = [_short(frame) for frame in stack.split(";")]
        samples += count
        own[names[-1]] += count
        for name in set(names):
            total[name] += count
    return [
        Share(name, own[name] / samples, total[name] / samples)
        for name in sorted(total, key=lambda name: (-own[name], -total[name]))
    ]


def _short(frame: str) -> str:
    """`run (a/b/c.py)` as `c.py run`; a thread by its name."""
    if thread := _THREAD.match(frame):
        return f"thread {thread['name']}"
    found = _LINE.match(frame)
    return f"{Path(found['file']).name} {found['name']}" if found else frame
