"""`make bench`: measure, and hold the figures against their targets.

python -m bench                     everything; about half an hour
python -m bench --quick             small stores, few rounds; a few minutes
python -m bench --only echo get     some of it
python -m bench --profile create    where the server's time goes, by py-spy
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import grpc
from rich.console import Console
from rich.table import Table

from bench import (
    access,
    aggregates,
    bulk,
    children,
    drop_in,
    expiry,
    machine,
    neighbours,
    peers,
    picture,
    postgres,
    profiling,
    report,
    rpcs,
    scale,
    watch,
)
from bench.plan import SECTIONS, Plan
from bench.processes import ROOT, Broken
from bench.results import Results

OUT = ROOT / "bench-results"
PICTURE = ROOT / "docs" / "bench.svg"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
BUSY = 0.7
"""A load average above this says that others use the machine, too."""
TOP = 30
"""Lines of each table of a profile."""
WHOLE_LOOP = 0.5
NAMES = ("echo", *rpcs.RPCS, *SECTIONS)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small stores and few rounds")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help=f"of: {', '.join(NAMES)}"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="where results go")
    parser.add_argument(
        "--picture", action="store_true", help="renew the picture and the table in the docs"
    )
    parser.add_argument(
        "--profile", metavar="RPC", choices=["echo", *rpcs.RPCS], help="profile one RPC"
    )
    parsed = parser.parse_args(arguments)
    parsed.only = [name for each in parsed.only for name in each.split(",") if name]
    if unknown := sorted(set(parsed.only) - set(NAMES)):
        parser.error(f"--only: there is no {', '.join(unknown)}")
    if parsed.picture and (parsed.quick or parsed.only):
        parser.error("--picture shows a whole run: neither --quick nor --only")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status: 0 when it ran, whatever it found."""
    options = _arguments(arguments)
    if not sys.platform.startswith("linux"):
        print("the benchmark reads CPU time and memory as Linux tells them", file=sys.stderr)
        return 2
    # So that servers and stores go when the run is told to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(width=None if sys.stdout.isatty() else 160)
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.0f} s  {line}[/dim]", highlight=False)

    options.out.mkdir(parents=True, exist_ok=True)
    # Beside the results, so that the stores are on the same disk and not in memory.
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.out)).resolve()
    try:
        if options.profile:
            return _profile(options.profile, work, options.out, console, say)
        return _measure(options, work, console, say)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure(
    options: argparse.Namespace, work: Path, console: Console, say: Callable[[str], None]
) -> int:
    plan = Plan(quick=options.quick, only=frozenset(options.only))
    facts, results = machine.facts(work), Results()
    facts["commit"] = _commit()
    settings = {**asdict(plan), "only": sorted(plan.only), "rounds": plan.rounds}
    if plan.quick:
        say("quick: small stores and few rounds")
    _warn(facts, results)
    sections: list[tuple[tuple[str, ...], Callable[..., None]]] = [
        (("echo", *rpcs.RPCS), rpcs.measure),
        (("adk",), peers.measure_adk),
        (("adapter",), drop_in.measure),
        (("etcd",), peers.measure_etcd),
        (("access",), access.measure),
        (("neighbours",), neighbours.measure),
        (("expiry",), expiry.measure),
        (("children",), children.measure),
        (("bulk",), bulk.measure),
        (scale.SECTIONS, scale.measure),
        (aggregates.SECTIONS, aggregates.measure),
        (watch.SECTIONS, watch.measure),
        (postgres.SECTIONS, postgres.measure),
    ]
    broken = 0
    for names, section in sections:
        if not plan.wants(*names):
            continue
        try:
            section(plan, work, results, say)
        except (Broken, grpc.RpcError) as error:
            broken += 1
            results.skipped.append(f"{names[0]}: {error}")
        # What is known is kept, whatever becomes of the rest.
        report.write_json(options.out / "bench.json", results, facts, settings)
    facts["load_average_after"] = round(machine.load_average(), 2)
    report.print_table(console, results, facts, quick=plan.quick)
    report.write_json(options.out / "bench.json", results, facts, settings)
    (options.out / "bench.svg").write_text(picture.draw(results, facts), encoding="utf-8")
    if options.picture and not broken:
        PICTURE.write_text(picture.draw(results, facts), encoding="utf-8")
        report.write_into_page(PAGE, report.markdown(results, facts))
    return 1 if broken else 0


def _warn(facts: dict[str, str | int | float], results: Results) -> None:
    """Say what makes the figures of this run worth less."""
    if float(facts["load_average_before"]) > BUSY:
        results.notes.append(
            f"others use this machine: load average {facts['load_average_before']}"
        )
    if facts["file_system"] in {"tmpfs", "ramfs"}:
        results.notes.append("the stores are in memory: fsync costs nothing here; use --out")


def _profile(job: str, work: Path, out: Path, console: Console, say: Callable[[str], None]) -> int:
    try:
        found = profiling.profile(job, work, out, say)
    except Broken as error:
        print(error, file=sys.stderr)
        return 1
    # The frames of the start are around everything, and say nothing.
    below = [share for share in found.functions if share.total < WHOLE_LOOP]
    heading = f"{job}, {found.cpu_us:.0f} µs and {found.switches:.1f} switches a call"
    for title, ordered in (
        ("CPU time by thread", found.threads),
        ("interpreter held, by own time", found.functions),
        ("interpreter held, by total time", sorted(below, key=lambda share: -share.total)),
    ):
        table = Table(title=f"{heading}: {title}", title_justify="left")
        for column in ("own", "total"):
            table.add_column(column, justify="right")
        table.add_column("where")
        for share in ordered[:TOP]:
            table.add_row(f"{share.own:.1%}", f"{share.total:.1%}", share.name)
        console.print(table)
    console.print(f"the whole profile: {out / f'profile-{job}.txt'}")
    return 0


def _commit() -> str:
    """Which version of the source this is."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    done = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
