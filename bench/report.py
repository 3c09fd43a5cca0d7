"""What a run tells: a table in the terminal, JSON, and the table of the docs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.results import Figure, Results

Facts = Mapping[str, str | int | float]
BEGIN = "<!-- Written by the benchmark (`--picture`) from here … -->"
END = "<!-- … to here. -->"
_COLOURS = {"met": "green", "missed": "red", "": ""}


def figure_text(figure: Figure) -> str:
    """The figure, as a person reads it."""
    digits = 1 if figure.unit != "×" or figure.value >= 10 else 2
    return f"{figure.value:.{digits}f}{figure.unit}"


def spread_text(figure: Figure) -> str:
    """The least and the most of the rounds."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{figure.low:.2f} – {figure.high:.2f}"


def target_text(figure: Figure) -> str:
    """The target, or nothing."""
    return figure.target.text(figure.unit) if figure.target else ""


def _fact(figure: Figure, name: str) -> str:
    value = figure.facts.get(name)
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _rest(figure: Figure) -> str:
    """The facts that have no column."""
    shown = {"cpu_us", "rate", "p50_ms", "p99_ms"}
    facts = [f"{name} {value:,g}" for name, value in figure.facts.items() if name not in shown]
    return ", ".join([*([figure.note] if figure.note else []), *facts])


def print_table(console: Console, results: Results, facts: Facts, *, quick: bool) -> None:
    """The table in the terminal."""
    table = Table(title="Sojourn, measured", title_justify="left", pad_edge=False)
    table.add_column("what")
    for heading in ("figure", "spread", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("CPU µs", "per s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, figures in groupby(results.figures, lambda figure: figure.group):
        table.add_section()
        table.add_row(f"[bold]{group}[/bold]")
        for figure in figures:
            colour = _COLOURS[figure.verdict]
            rest = _rest(figure)
            table.add_row(
                figure.title + (f"\n[dim]{rest}[/dim]" if rest else ""),
                figure_text(figure),
                spread_text(figure),
                target_text(figure),
                f"[{colour}]{figure.verdict}[/{colour}]" if colour else "",
                *(_fact(figure, name) for name in ("cpu_us", "rate", "p50_ms", "p99_ms")),
            )
    console.print(table)
    for line in results.skipped:
        console.print(f"[yellow]skipped[/yellow] {line}")
    for line in results.notes:
        console.print(f"[yellow]note[/yellow] {line}")
    met = sum(figure.verdict == "met" for figure in results.figures)
    missed = sum(figure.verdict == "missed" for figure in results.figures)
    console.print(f"{met} targets met, {missed} missed; on {machine_text(facts)}.")
    if quick:
        console.print(
            "[yellow]Quick: small stores and few rounds. These figures decide nothing.[/yellow]"
        )


def machine_text(facts: Facts) -> str:
    """The machine in one line."""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, fsync {facts['fsync_ms']} ms on "
        f"{facts['file_system']}, Python {facts['python']}, SQLite {facts['sqlite']}, "
        f"grpcio {facts['grpcio']}, {facts['date']}"
    )


def write_json(path: Path, results: Results, facts: Facts, plan: Mapping[str, object]) -> None:
    """Everything, for other programs."""
    document = {
        "machine": dict(facts),
        "plan": dict(plan),
        "figures": [figure.as_json() for figure in results.figures],
        "skipped": results.skipped,
        "notes": results.notes,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def markdown(results: Results, facts: Facts) -> str:
    """The table of the docs."""
    lines = [
        f"On {machine_text(facts)}:",
        "",
        "| what | figure | spread | target | | server CPU, µs | calls per s | p99, ms |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    lines += [
        f"| {figure.title} | {figure_text(figure)} | {spread_text(figure)} | "
        f"{target_text(figure)} | {figure.verdict} | {_fact(figure, 'cpu_us')} | "
        f"{_fact(figure, 'rate')} | {_fact(figure, 'p99_ms')} |"
        for figure in results.figures
    ]
    lines += [f"\nSkipped: {line}." for line in results.skipped]
    lines += [f"\nNote: {line}." for line in results.notes]
    return "\n".join(lines)


def write_into_page(page: Path, table: str) -> None:
    """Replace what stands between the markers of a page.

    Raises:
        ValueError: The page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the table")
    page.write_text(f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}", encoding="utf-8")
