"""What every command is told: where the server is, which app is meant, and how to print.

The options are accepted before the command and after it: `sojourn --app a sessions list` is
`sojourn sessions list --app a`. What is said last counts.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

import sojourn

DEADLINE = timedelta(seconds=30)


@dataclass
class Settings:
    """The values of the options that all commands share."""

    target: str = "localhost:7070"
    app: str = ""
    api_key: str = ""
    api_key_file: Path | None = None
    token_file: Path | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_name: str = ""
    actor: str = ""
    deadline: float | None = None
    output: str = ""
    verbose: bool = False

    @property
    def as_table(self) -> bool:
        """Whether to print for people: on a terminal, unless told otherwise."""
        return self.output == "table" or (not self.output and sys.stdout.isatty())

    @property
    def deadline_said(self) -> timedelta | None:
        """How long a call may take that takes long; None: as long as the client lets it."""
        return None if self.deadline is None else timedelta(seconds=self.deadline)

    def connection(self, *, any_app: bool = False) -> dict[str, Any]:
        """Return the arguments that a client is made with; `any_app`: it may do without an app."""
        if not self.app and not any_app:
            raise click.UsageError("Which app? Name it with --app NAME, or set SOJOURN_APP.")
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        secure = self.tls or bool(self.tls_name) or any(files)
        found: dict[str, Any] = {
            "target": self.target,
            "app": self.app,
            "tls": sojourn.TLS.from_files(*files, server_name=self.tls_name) if secure else None,
            "credentials": self._credentials(),
            "deadline": self.deadline_said or DEADLINE,
            # Somebody is waiting: a server that is away is said to be so within a second.
            "retry": sojourn.RetryOptions(max_attempts=4),
            "actor": self.actor,
        }
        try:
            # Making a client opens no connection, but finds out what does not fit together.
            sojourn.Client(**found).close()
        except sojourn.errors.ConfigurationError:
            if found["credentials"] is None or secure:
                raise
            kind = "A token" if self.token_file else "An API key"
            raise click.UsageError(
                f"{kind} is not sent unencrypted to {self.target}: add --tls or --tls-ca FILE."
            ) from None
        return found

    def _credentials(self) -> sojourn.ApiKey | sojourn.BearerToken | None:
        """Return what says who calls."""
        if sum(map(bool, (self.api_key, self.api_key_file, self.token_file))) > 1:
            raise click.UsageError(
                "Say once who calls: --api-key, --api-key-file and --token-file, or their "
                "variables, exclude each other."
            )
        if self.api_key_file:
            return sojourn.ApiKey.from_file(self.api_key_file)
        if self.token_file:
            return sojourn.BearerToken.from_file(self.token_file)
        return sojourn.ApiKey(self.api_key) if self.api_key else None

    def connect(self, *, any_app: bool = False) -> sojourn.Client:
        """Return a client; nothing is sent yet. `any_app`: it may do without an app of its own."""
        return sojourn.Client(**self.connection(any_app=any_app))


def settings_of(context: click.Context) -> Settings:
    """Return the settings of a command that runs, or of its root."""
    return context.ensure_object(Settings)


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Keep an option's value if the caller, or the environment, named one."""
    if value is not None and parameter.name is not None:
        setattr(settings_of(context.find_root()), parameter.name, value)


def global_options(*, hidden: bool = False) -> list[click.Parameter]:
    """Return the options that all commands share; after a command they are left out of its help."""

    def option(*names: str, environment: str | None = None, **more: Any) -> click.Option:
        return click.Option(
            names,
            callback=_remember,
            expose_value=False,
            hidden=hidden,
            # The environment is read once, before the command, so that an option there wins.
            envvar=None if hidden else environment,
            show_envvar=True,
            default=None,
            **more,
        )

    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        option(
            "--target",
            environment="SOJOURN_TARGET",
            metavar="HOST:PORT",
            help="Where the server is.  [default: localhost:7070]",
        ),
        option("--app", environment="SOJOURN_APP", metavar="NAME", help="Which app is meant."),
        option(
            "--api-key",
            environment="SOJOURN_API_KEY",
            metavar="KEY",
            help="Who calls. The variable is safer: others can see a command's options.",
        ),
        option(
            "--api-key-file",
            environment="SOJOURN_API_KEY_FILE",
            type=file,
            metavar="FILE",
            help="Who calls: the API key in this file.",
        ),
        option(
            "--token-file",
            environment="SOJOURN_TOKEN_FILE",
            type=file,
            metavar="FILE",
            help="Who calls: the token in this file, such as a JWT.",
        ),
        option("--tls", is_flag=True, flag_value=True, help="Encrypt, trusting the usual roots."),
        option(
            "--tls-ca",
            environment="SOJOURN_TLS_CA",
            type=file,
            metavar="FILE",
            help="Encrypt, trusting these roots (PEM).",
        ),
        option("--tls-cert", type=file, metavar="FILE", help="The caller's certificate (PEM)."),
        option("--tls-key", type=file, metavar="FILE", help="The key of that certificate (PEM)."),
        option(
            "--tls-name", metavar="NAME", help="The server's name, if its certificate has another."
        ),
        option(
            "--actor",
            environment="SOJOURN_ACTOR",
            metavar="NAME",
            help="Who acts, for the records of a server that does not authenticate.",
        ),
        option(
            "--deadline",
            environment="SOJOURN_DEADLINE",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help="How long a call may take, repeats counted.  [default: 30; an hour for what takes "
            "as long as there is something to do]",
        ),
        option(
            "--output",
            environment="SOJOURN_OUTPUT",
            type=click.Choice(["table", "json"]),
            help="Tables for people, or JSON, one object a line.  "
            "[default: table on a terminal, else json]",
        ),
        option(
            "-v",
            "--verbose",
            is_flag=True,
            flag_value=True,
            help="Say more about errors: the method, the correlation id and other facts.",
        ),
    ]


class Command(click.Command):
    """A command that also takes the options that all commands share."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own options, and the shared ones."""
        return [*super().get_params(ctx), *global_options(hidden=True)]


class Group(click.Group):
    """A group whose commands take the options that all commands share."""

    command_class = Command
