"""`sojourn-server`: run the server, ask one whether it is well, or work on its store.

Exit codes: 0 stopped after a drain, healthy, or migrated; 1 stopped by force, not
healthy, or to be migrated; 2 wrong settings; 3 the store cannot be used; 4 the address
cannot be used.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sojourn_server import logs
from sojourn_server.app import CannotListen, make_store, start, version
from sojourn_server.key_commands import key_commands
from sojourn_server.service import feeds
from sojourn_server.settings import (
    Kind,
    Setting,
    Settings,
    SettingsError,
    parse_length,
    reach,
    table,
)
from sojourn_server.store.base import StoreDown, StoreFull, StoreUnusable

FORCED: Final = 1
TO_BE_MIGRATED: Final = 1
BAD_SETTINGS: Final = 2
STORE_UNUSABLE: Final = 3
CANNOT_LISTEN: Final = 4
GC_THRESHOLD: Final = 20_000
"""Objects made and not freed since the last collection of the youngest ones."""


# Newer releases of click make it generic; older ones would refuse the brackets.
if TYPE_CHECKING:
    ParamType = click.ParamType[int]
else:
    ParamType = click.ParamType


class _Length(ParamType):
    """A length of time, as a person writes it."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_length(value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


def _type(kind: Kind) -> click.ParamType[Any]:
    match kind.name:
        case "choice":
            return click.Choice(kind.choices, case_sensitive=False)
        case "length":
            return _Length()
        case "number":
            return click.IntRange(kind.least, kind.most)
        case "path":
            return click.Path(path_type=Path)
        case _:
            return click.STRING


def _option(setting: Setting) -> click.Option:
    if setting.kind.name == "flag":
        both = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}"
        return click.Option([both], default=setting.default, help=setting.sentence)
    return click.Option(
        [setting.flag],
        type=_type(setting.kind),
        default=setting.default_text or None,
        show_default=bool(setting.default_text),
        help=setting.sentence,
    )


def _serve(context: click.Context, **values: Any) -> None:
    if context.invoked_subcommand is not None:
        context.obj = values
        return
    try:
        settings = Settings(**values)
        logs.configure(settings.log_level, settings.log_format)
        runner = _runner(settings.loop)
        code = runner(_run(settings))
    except SettingsError as error:
        _fail(BAD_SETTINGS, error)
    except StoreUnusable as error:
        _fail(STORE_UNUSABLE, error)
    except CannotListen as error:
        _fail(CANNOT_LISTEN, error)
    context.exit(code)


def _fail(code: int, error: Exception) -> NoReturn:
    """End with a sentence on stderr and an exit code."""
    click.echo(f"sojourn-server: {error}", err=True)
    sys.exit(code)


def _runner(loop: str) -> Callable[[Coroutine[Any, Any, int]], int]:
    """What runs the event loop."""
    if loop == "asyncio":
        return asyncio.run
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        if loop == "uvloop":
            raise SettingsError("loop is uvloop, which is not installed.") from None
        return asyncio.run
    return uvloop.run


async def _run(settings: Settings) -> int:
    """Serve until a signal comes; a second one forces the end.

    Returns:
        The exit code.
    """
    loop = asyncio.get_running_loop()
    told, told_again = asyncio.Event(), asyncio.Event()

    def tell() -> None:
        (told_again if told.is_set() else told).set()

    # Before the start: a signal that comes with the port file must find them.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    server = await start(settings)
    _spare_the_collector()
    await told.wait()
    stopping = asyncio.create_task(server.stop())
    hurrying = asyncio.create_task(told_again.wait())
    await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    if told_again.is_set():
        server.hurry()
    hurrying.cancel()
    await stopping
    return FORCED if told_again.is_set() else 0


def _spare_the_collector() -> None:
    """Let garbage collection pass over what lives as long as the process.

    Calls make little garbage in cycles, and each full collection walks every module.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


@click.command()
@click.option("--target", help="host:port of the server; by default the one that listens here.")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="Who signed the server's name.")
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path),
    help="The certificate to show, PEM; by default the server's own, where it demands one.",
)
@click.option("--tls-key", type=click.Path(path_type=Path), help="The key of that certificate.")
@click.option("--tls-name", help="The name in the server's certificate.")
@click.option("--timeout", default=2.0, show_default=True, help="How long to wait, in seconds.")
@click.option("--service", default="", help="Ask for one service: `sojourn.write`.")
@click.pass_context
def health(
    context: click.Context,
    target: str | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_name: str | None,
    timeout: float,
    service: str,
) -> None:
    """Ask a server whether it is well: exit code 0 if it is, 1 if not."""
    settings: dict[str, Any] = context.obj
    ca = tls_ca or settings["tls_cert"]
    address = target or settings["listen"]
    try:
        address = target or reach(address)
        own = _shown(tls_cert, tls_key, settings)
        with _channel(address, ca, own, tls_name) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout
            )
    except (SettingsError, OSError) as error:
        _fail(BAD_SETTINGS, error)
    except grpc.RpcError as error:
        # grpc's stubs do not say so, but what a stub raises is also a Call.
        failed: Any = error
        click.echo(f"{address}: {failed.code().name}", err=True)
        context.exit(1)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(f"{address}: {status}")
    context.exit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


@click.command()
@click.option("--check", is_flag=True, help="Change nothing: exit code 1 if there is work to do.")
@click.pass_context
def migrate(context: click.Context, check: bool) -> None:
    """Bring the store's schema to this release's. The server does so by itself when it starts.

    Exit codes: 0 it is, 1 it is not and --check was given, 2 wrong settings, 3 the store
    cannot be used.
    """
    values: dict[str, Any] = context.obj

    async def run() -> tuple[int, int]:
        store = make_store(_without_listening(values))
        found, newest = await store.versions()
        if not check:
            await store.open()
            await store.close()
        return found, newest

    try:
        found, newest = asyncio.run(run())
    except SettingsError as error:
        _fail(BAD_SETTINGS, error)
    except StoreUnusable as error:
        _fail(STORE_UNUSABLE, error)
    if found == newest:
        click.echo(f"schema {newest}: nothing to do")
    elif check:
        click.echo(f"schema {found}: to be migrated to {newest}")
        context.exit(TO_BE_MIGRATED)
    else:
        click.echo(f"schema {newest}: migrated from {found}")


@click.command("new-feeds")
@click.pass_context
def new_feeds(context: click.Context) -> None:
    """Give every app a new feed_id: after a restore, or a failover that lost commits.

    Whoever follows an app's log then hears that it is another one, and begins anew. Each
    app's change is logged. A store in a file must have no server; run it again if it fails.

    Exit codes: 0 done, 2 wrong settings, 3 the store cannot be used.
    """
    values: dict[str, Any] = context.obj

    async def run() -> int:
        store = make_store(_without_listening(values))
        await store.open()
        try:
            return await feeds.renew(store)
        finally:
            await store.close()

    try:
        count = asyncio.run(run())
    except SettingsError as error:
        _fail(BAD_SETTINGS, error)
    except (StoreUnusable, StoreFull, StoreDown) as error:
        _fail(STORE_UNUSABLE, error)
    click.echo(f"apps with a new feed: {count}")


def _without_listening(values: dict[str, Any]) -> Settings:
    """The settings of a command that listens nowhere, whatever the server of this store does.

    Raises:
        SettingsError: Another one cannot be.
    """
    return Settings(**{**values, "listen": "127.0.0.1:0", "metrics_listen": None})


def _shown(
    cert: Path | None, key: Path | None, settings: dict[str, Any]
) -> tuple[Path, Path] | None:
    """The certificate that a caller shows, and its key; None: none.

    Raises:
        SettingsError: One is named without the other.
    """
    if (cert is None) != (key is None):
        raise SettingsError("--tls-cert and --tls-key of health go together.")
    if cert is None and settings["tls_client_ca"] is not None:
        # Whoever signs clients often signed the server too. Nothing is lost where they did not.
        cert, key = settings["tls_cert"], settings["tls_key"]
    return None if cert is None or key is None else (cert, key)


def _channel(
    target: str, ca: Path | None, own: tuple[Path, Path] | None, name: str | None
) -> grpc.Channel:
    if ca is None:
        return grpc.insecure_channel(target)
    cert, key = own or (None, None)
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(),
        None if key is None else key.read_bytes(),
        None if cert is None else cert.read_bytes(),
    )
    options = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.secure_channel(target, credentials, options)


def command() -> click.Group:
    """The command, its options made from the table of settings."""
    options: list[click.Parameter] = [_option(setting) for setting in table()]
    version_option = click.version_option(version(), prog_name="sojourn-server")
    group = click.Group(
        "sojourn-server",
        commands={
            "health": health,
            "keys": key_commands,
            "migrate": migrate,
            "new-feeds": new_feeds,
        },
        invoke_without_command=True,
        callback=click.pass_context(_serve),
        params=options,
        help="Run the Sojourn server. Each flag is also a variable: --listen is SOJOURN_LISTEN.",
        epilog=(
            "Exit codes: 0 stopped after a drain, 1 stopped by force, 2 wrong settings, "
            "3 the store cannot be used, 4 the address cannot be used."
        ),
    )
    return version_option(group)


def main() -> None:
    """Run `sojourn-server`."""
    command()(auto_envvar_prefix="SOJOURN")
