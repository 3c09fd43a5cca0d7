"""Where the server's time goes during one kind of call: a py-spy profile, and its top functions."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.environment import FOLDER, peers_python
from bench.measure import PROCESSES, Rig
from bench.processes import Broken, Workers, start_sojourn
from bench.results import Results

SECONDS = 15
SAMPLES_PER_SECOND = 500
CALLS = {"begin_turn": 700, "end_turn": 700, "end_session": 700}
CALLS_ELSE = 1_500
TOP = 25
_LINE = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")


@dataclass(frozen=True)
class Share:
    """A function and its part of the samples."""

    name: str
    own: float
    total: float


def profile(job: str, folder: Path, out: Path, say: Callable[[str], None]) -> list[Share]:
    """Record a profile into `out`, and return the functions by their own time.

    Raises:
        Broken: py-spy is not there, or it may not look into the server.
    """
    missing = Results()
    if peers_python(missing) is None:
        raise Broken(missing.skipped[0])
    path = out / f"profile-{job}.txt"
    with (
        start_sojourn(folder, "profiled") as server,
        Workers(server.target, folder, PROCESSES) as workers,
    ):
        rig = Rig(server, workers)
        say(f"profile: making ready for {job}")
        rig.measure(job, 4)
        rig.prepare(job, CALLS.get(job, CALLS_ELSE))
        say(f"profile: {job} for up to {SECONDS} s")
        workers.tell(do="run")
        time.sleep(0.5)
        spy = subprocess.Popen(
            [
                *(str(FOLDER / "bin" / "py-spy"), "record", "--pid", str(server.pid)),
                *("--rate", str(SAMPLES_PER_SECOND), "--duration", str(SECONDS)),
                *("--format", "raw", "--threads", "--nolineno", "--nonblocking"),
                *("--output", str(path)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, _ = spy.communicate(timeout=SECONDS + 60)
        if spy.returncode != 0 or not path.exists():
            raise Broken(f"py-spy: {said[-500:]}")
        workers.answers()
    return shares(path.read_text(encoding="utf-8"))


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
    """`run (a/b/c.py)` as `c.py run`; a thread as its name."""
    if frame.startswith("thread "):
        return re.sub(r"^thread \(0x[0-9a-f]+\):? ?", "thread ", frame) or "thread"
    found = _LINE.match(frame)
    return f"{Path(found['file']).name} {found['name']}" if found else frame
