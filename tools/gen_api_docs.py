"""Write the reference of the contract from its comments: `docs/reference/api.md` and `errors.md`.

The comments are linted (`tools.lint_comments`), so every service, RPC, message, field, enum and
value has an entry here, and the check fails when a page is not what the protos say.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tools.lint_comments import comments, elements
from tools.protos import ROOT, compile_protos, own_files
from tools.surface import render

PAGES = ROOT / "docs" / "reference"
NOTE = "<!-- Generated from protos/sojourn/v1 by `make gen`. Do not edit. -->\n\n"
PACKAGE = "sojourn.v1."
INTRODUCTION = """\
Every error carries a `google.rpc.ErrorInfo` with the domain `sojourn` and one of these
reasons; the example shows its metadata.
"""
REASON = re.compile(r"ERROR_REASON_(\w+)$")
EXAMPLE = re.compile(
    r"^(?P<code>[A-Z_]+)\. (?P<text>.*?)\s*(?:Example: (?P<example>.*))?$", re.DOTALL
)


def api_page(files: list[FileDescriptorProto]) -> str:
    """Return the page of services, messages and enums, in the files' order."""
    types = _types(files)
    lines = ["# The API, element by element\n"]
    for file in sorted(files, key=lambda each: (not each.service, each.name)):
        said = comments(file)
        for kind, name, path in elements(file):
            if name.startswith(f"{PACKAGE}ErrorReason"):
                continue
            lines.append(_entry(kind, name, types.get(name, ""), said[path][0]))
    return NOTE + "\n".join(lines)


def errors_page(files: list[FileDescriptorProto]) -> str:
    """Return the page of error reasons: code, meaning, example."""
    lines = [
        "# Error reasons\n",
        INTRODUCTION,
        "| reason | code | what it means | example |",
        "|---|---|---|---|",
        *sorted(_reasons(files)),
    ]
    return NOTE + "\n".join(lines) + "\n"


def _types(files: list[FileDescriptorProto]) -> dict[str, str]:
    """Return what the surface says of each field, RPC and value, by full name."""
    types: dict[str, str] = {}
    for line in render(files).splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "rpc":
            name, _, request = rest.partition("(")
            types[name] = f"({request}".replace(PACKAGE, "")
        elif kind in {"field", "value"}:
            name, _, described = rest.partition(" = ")
            number, _, type_name = described.partition(" ")
            types[name] = f"{type_name or '='} {number}".replace(PACKAGE, "")
    return types


def _entry(kind: str, name: str, type_name: str, comment: str) -> str:
    text = " ".join(comment.split())
    short = name.removeprefix(PACKAGE)
    match kind:
        case "service" | "message" | "enum":
            return f"\n## {kind} {short}\n\n{text}\n"
        case "rpc":
            return f"\n### {short}\n\n`{type_name}`\n\n{text}\n"
        case "oneof":
            return f"- one of **{short.rpartition('.')[2]}**: {text}"
        case _:
            return f"- **{short.rpartition('.')[2]}** `{type_name}`: {text}"


def _reasons(files: list[FileDescriptorProto]) -> Iterator[str]:
    for file in files:
        said = comments(file)
        for kind, name, path in elements(file):
            found = REASON.search(name)
            if kind != "value" or not found or found[1] == "UNSPECIFIED":
                continue
            parts = EXAMPLE.match(" ".join(said[path][0].split()))
            if parts is None:
                raise SystemExit(f"{name}: the comment must begin with its code")
            example = (parts["example"] or "").replace("|", "\\|")
            yield f"| `{found[1]}` | `{parts['code']}` | {parts['text']} | {example} |"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)
    files = own_files(compile_protos())
    status = 0
    for page, text in (("api.md", api_page(files)), ("errors.md", errors_page(files))):
        path = PAGES / page
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(
                f"{path.relative_to(ROOT)} is not what the protos say: run `make gen`",
                file=sys.stderr,
            )
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
