"""The picture for the README: bars of the figures, readable on light and on dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.report import Facts
from bench.results import Figure, Results

WIDTH = 840
LEFT = 300
RIGHT = 150
ROW = 24
BAR = 14
TITLE = 40
GAP = 18
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 14px; }
  .quiet { fill: #57606a; font-size: 12px; }
  .met { fill: #2da44e; } .missed { fill: #cf222e; } .plain { fill: #6e7781; }
  .target { stroke: #24292f; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .met { fill: #3fb950; } .missed { fill: #f85149; } .plain { fill: #9198a1; }
    .target { stroke: #e6edf3; }
  }
"""
_SHORT = {
    "echo": "bare echo",
    "get": "GetSession",
    "get_full": "GetSession + 20 messages",
    "list_messages": "ListMessages, newest 20",
    "create": "CreateSession",
    "update": "UpdateSession, label + state",
    "update_metrics": "UpdateSession, metrics",
    "append": "AppendMessages, one",
    "begin_turn": "BeginTurn",
    "end_turn": "EndTurn",
    "end_session": "EndSession",
    "adk database create": "create",
    "adk database append": "append one message",
    "adk database get": "get",
    "adk database get_full": "get + 20 messages",
    "list user": "page by user",
    "list label": "page by label",
    "list user+label": "page by user and label",
    "list active": "page by status ACTIVE",
    "list completed": "page by status COMPLETED",
    "page far all": "page 1,000 over page 1",
    "history list": "newest 20 of 100,000 messages",
    "expiry p99": "others' p99 while 100,000 expire",
}
_PANELS = (
    (
        "Server CPU per call, as a multiple of a bare gRPC echo (shorter is better)",
        (
            *("echo", "get", "get_full", "list_messages", "create", "update", "update_metrics"),
            *("append", "begin_turn", "end_turn", "end_session"),
        ),
    ),
    (
        "Calls per second over google-adk's DatabaseSessionService in-process (longer is better)",
        (
            *("adk database create", "adk database append"),
            *("adk database get", "adk database get_full"),
        ),
    ),
    (
        "Cost in a store of 1,000,000 sessions over cost in a small one (1× is flat)",
        (
            *("list user", "list label", "list user+label", "list active", "list completed"),
            *("page far all", "history list", "expiry p99"),
        ),
    ),
)


def draw(results: Results, facts: Facts) -> str:
    """The SVG."""
    known = {figure.name: figure for figure in results.figures}
    parts: list[str] = []
    top = 0
    for title, names in _PANELS:
        figures = [known[name] for name in names if name in known]
        if figures:
            parts += _panel(title, figures, top)
            top += TITLE + ROW * len(figures) + GAP
    top += ROW
    parts.append(
        _text(
            0,
            top - 8,
            f"{facts['cores']} cores, {facts['cpu']}; durable writes (synchronous=FULL), "
            f"64 callers; {str(facts['date'])[:10]}. A line across a bar is the target.",
            "quiet",
        )
    )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {top + 4}" '
        f'width="{WIDTH + 20}" height="{top + 4}" role="img" '
        'aria-label="Figures of the benchmark, as bars">'
    )
    return "\n".join([head, f"<style>{_STYLE}</style>", *parts, "</svg>", ""])


def _panel(title: str, figures: Sequence[Figure], top: int) -> list[str]:
    longest = max(
        max(figure.value, figure.target.value if figure.target else 0.0) for figure in figures
    )
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts = [_text(0, top + TITLE - 14, title, "title")]
    for row, figure in enumerate(figures):
        y = top + TITLE + row * ROW
        length = max(2.0, figure.value * scale)
        bar = (
            f'<rect class="{figure.verdict or "plain"}" x="{LEFT}" y="{y}" '
            f'width="{length:.1f}" height="{BAR}" rx="2"/>'
        )
        name = _SHORT.get(figure.name, figure.name)
        parts += [_text(LEFT - 10, y + BAR - 2, name, "", "end"), bar]
        label = f"{figure.value:.{1 if figure.value >= 10 else 2}f}×"
        end = length
        if figure.target:
            x = LEFT + figure.target.value * scale
            end = max(end, figure.target.value * scale)
            parts.append(
                f'<line class="target" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + BAR + 3}"/>'
            )
            label += f"  (target {figure.target.text('×')})"
        parts.append(_text(LEFT + end + 8, y + BAR - 2, label, "quiet"))
    return parts


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )
