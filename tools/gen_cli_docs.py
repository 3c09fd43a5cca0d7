"""Write the reference of the command line, `docs/reference/cli.md`, from its code.

python -m tools.gen_cli_docs            write the page
python -m tools.gen_cli_docs --check    compare with what is committed, write nothing
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

import click

from sojourn.cli.failures import ExitCode
from sojourn.cli.root import cli
from sojourn_server.command import command as server_command
from tools.gen_docs import NOTE, ROOT, outdated

PAGE = ROOT / "docs" / "reference" / "cli.md"

INTRODUCTION = """# The command line

`sojourn` comes with the extra `cli`: `pip install "sojourn[cli]"`, and `sojourn-server` with the
extra `server`. This page is generated from the commands themselves.

## Output

On a terminal, results are tables and sentences; their wording may change. In a pipe, or with
`--output json`, each result is one JSON object on one line, in UTF-8, and complete: its keys stay,
new ones may come. Times are RFC 3339 in UTC; lengths of time are numbers of seconds. State,
metadata and results stand there as the JSON texts that were stored, so `1.00` stays `1.00`. A
message's payload is `payload_text` where its `content_type` says that it is text or JSON, else
`payload_base64`.

Errors are one sentence on standard error that begins with the reason, such as
`SESSION_NOT_FOUND`; [errors.md](errors.md) lists them all. `--verbose` adds the correlation id,
which finds the call in the server's log.
"""

SERVER = """## sojourn-server

Without a command it serves. Its flags, which are variables too, are in [settings.md](settings.md);
they stand before the command: `sojourn-server --store sqlite:///other.db migrate`.
"""


def page() -> str:
    """Return the text of the page."""
    parts = [NOTE + INTRODUCTION, _exit_codes(), *_command(cli, "sojourn"), *_server()]
    return "\n".join(parts)


def _exit_codes() -> str:
    rows = "".join(f"| {int(code)} | {code.sentence} |\n" for code in ExitCode)
    return f"## Exit status\n\n| status | meaning |\n|---|---|\n{rows}"


def _command(command: click.Command, path: str, depth: int = 2) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"{'#' * depth} {path}\n\n```text\n{path} {pieces}\n```\n"
    # The root's help ends with the exit status, which has a section of its own here.
    text = (command.help or "").partition("\b\nExit status")[0] if depth == 2 else command.help
    yield _prose(text or "")
    options = [one for one in command.get_params(context) if _is_shown(one)]
    if options:
        rows = "".join(map(_row, options))
        yield f"| option | value | what it does |\n|---|---|---|\n{rows}"
    if command.epilog:
        yield _prose(command.epilog)
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _command(command.commands[name], f"{path} {name}", min(depth + 1, 4))


def _server() -> Iterator[str]:
    """What `sojourn-server` does besides serving."""
    group = server_command()
    yield SERVER
    for name in sorted(group.commands):
        yield from _command(group.commands[name], f"sojourn-server {name}", 3)


def _is_shown(parameter: click.Parameter) -> bool:
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return False
    return "--help" not in parameter.opts


def _row(option: click.Parameter) -> str:
    assert isinstance(option, click.Option)
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else option.make_metavar(click.Context(cli))
    # Defaults that a sentence names itself, as those of the shared options, end in `[default: …]`.
    text, _, named = (option.help or "").partition("  [default: ")
    default = named.rstrip("]") or (str(option.default) if option.show_default else "")
    more = f" Default: {_code(default)}." if default else ""
    if option.envvar:
        more += f" Variable: `{option.envvar}`."
    return f"| {names} | {_cell(_code(value))} | {_cell(text)}{more} |\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _prose(text: str) -> str:
    """Return a help text as Markdown: paragraphs as they are, unfilled blocks as code."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(map(_paragraph, paragraphs)) + "\n"


def _paragraph(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    if lines[0] != "\b":
        return "\n".join(lines)
    # The first line of an unfilled block is its title, the others are commands.
    return "\n".join([lines[1], "", "```sh", *lines[2:], "```"])


def main() -> None:
    """Write the page, or compare it with `--check`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    text = page()
    if parser.parse_args().check:
        sys.exit("\n".join(outdated({PAGE: text})) or None)
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
