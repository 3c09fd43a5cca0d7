"""What the operating system says: CPU time, memory, and what machine this is."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

MIB = 1024 * 1024
PACKAGES = ("sojourn", "grpcio", "protobuf", "uvloop", "aiosqlite", "msgspec", "protovalidate")
FSYNCS = 40
_SCHEDULER_CLOCK = 2


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, threads that have ended included, to the nanosecond.

    This is what clock_getcpuclockid(3) would name: /proc/PID/stat counts the same in
    steps of 10 ms.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULER_CLOCK)


class ThreadUse(NamedTuple):
    """What a thread has used so far."""

    name: str
    seconds: float
    kernel: float
    """Of these, the seconds inside system calls; in steps of 10 ms."""
    switches: int
    """How often it gave up its processor, or lost it."""

    def since(self, before: ThreadUse | None) -> ThreadUse:
        """What it used since."""
        if before is None:
            return self
        return ThreadUse(
            self.name,
            self.seconds - before.seconds,
            self.kernel - before.kernel,
            self.switches - before.switches,
        )


def threads(pid: int) -> dict[int, ThreadUse]:
    """The living threads of a process, by their numbers."""
    found: dict[int, ThreadUse] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            used = int((task / "schedstat").read_text().split()[0])
            stat = (task / "stat").read_text().rpartition(")")[2].split()
            status = (task / "status").read_text().splitlines()
            name = (task / "comm").read_text().strip()
        except OSError:
            # It ended just now.
            continue
        switches = sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
        found[int(task.name)] = ThreadUse(name, used / 1e9, int(stat[12]) / tick, switches)
    return found


@dataclass(frozen=True)
class Memory:
    """What a process holds, in bytes."""

    rss: int
    pss: int
    anonymous: int
    """Its own pages; what is left of RSS are files, such as its libraries."""

    def over(self, base: Memory) -> Memory:
        """What it holds more than at another time."""
        return Memory(self.rss - base.rss, self.pss - base.pss, self.anonymous - base.anonymous)


def memory(pid: int) -> Memory:
    """What a process holds now."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        sizes[name.rstrip(":")] = int(size) * 1024
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Anonymous"])


def load_average() -> float:
    """How many processes wanted to run, over the last minute."""
    return os.getloadavg()[0]


def fsync_ms(folder: Path) -> float:
    """The median time of an fsync of one page in a folder, in milliseconds."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def file_system(folder: Path) -> str:
    """The type of the file system that a folder is on."""
    best, kind = "", "unknown"
    where = str(folder.resolve()) + "/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if where.startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, right.split()[0]
    return kind


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model", "Hardware"}:
            return value.strip()
    return platform.machine()


def facts(folder: Path) -> dict[str, str | int | float]:
    """The machine and the versions that a figure belongs to."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    known: dict[str, str | int | float] = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(total / 1024**3, 1),
        "kernel": platform.release(),
        "file_system": file_system(folder),
        "fsync_ms": round(fsync_ms(folder), 3),
        "load_average_before": round(load_average(), 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
    }
    for name in PACKAGES:
        known[name] = metadata.version(name)
    return known
