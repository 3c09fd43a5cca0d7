"""The composition root: the only module that knows every part of the server."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import platform
import socket
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from sojourn_server import logs
from sojourn_server.access.files import replace_file, warn_of_readers
from sojourn_server.authentication import make_authentication
from sojourn_server.domain.clock import SECOND, WallClock
from sojourn_server.domain.errors import draining
from sojourn_server.domain.tokens import Sealer
from sojourn_server.feed.hub import Hub
from sojourn_server.jobs import compaction, expiry, housekeeping, operations, retention
from sojourn_server.metrics.server import ServerMetrics
from sojourn_server.rpc.admin_service import AdminServicer, ServerFacts
from sojourn_server.rpc.admission import Admission, Budget, Budgets
from sojourn_server.rpc.app_service import AppServicer
from sojourn_server.rpc.callers import Callers
from sojourn_server.rpc.convert_change import WatchForms
from sojourn_server.rpc.convert_export import PartDecoder
from sojourn_server.rpc.health import Health
from sojourn_server.rpc.history_service import HistoryServicer
from sojourn_server.rpc.methods import services as service_names
from sojourn_server.rpc.pipeline import Pipeline
from sojourn_server.rpc.server import make_server, warm_rules
from sojourn_server.rpc.session_service import SessionServicer
from sojourn_server.rpc.tls import server_credentials
from sojourn_server.rpc.turn_service import TurnServicer
from sojourn_server.service import Defaults, Services
from sojourn_server.service.backups import Backups
from sojourn_server.service.watching import Watching
from sojourn_server.settings import Address, Settings, SettingsError, reach, split_address
from sojourn_server.store.base import Store, StoreDown, StoreFull, StoreUnusable
from sojourn_server.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from sojourn_server.metrics.page import Page

STOP_GRACE: Final = 1.0
"""How long the last answers may take to leave once no handler runs, in seconds."""
LAST_CALLS: Final = 0.01
"""How long grpc may take to tell callers that it stops, before the last are refused."""
TURNS_POLL: Final = 0.1
"""How often a drain looks whether turns are over, in seconds."""
EVICTION_GRACE: Final = 2.0
"""How long a handler may take to notice that it was broken off, in seconds."""
RESTART_FIRST: Final = 0.5
RESTART_MOST: Final = 30.0
"""How long a failed job rests before it runs again, in seconds."""

_log = logs.Log("server")


class CannotListen(Exception):
    """The address cannot be used; the text is a sentence for the operator."""


async def start(settings: Settings) -> RunningServer:
    """Open the store, start the jobs, and answer calls.

    Args:
        settings: What to run. Logs are the caller's: see `logs.configure`.

    Raises:
        StoreUnusable: The store cannot be opened.
        CannotListen: An address is taken or is none of this machine's.
        SettingsError: A file that a setting names cannot be read or written.
    """
    clock = WallClock()
    credentials = server_credentials(settings)
    authentication = await make_authentication(settings)
    for name, path in settings.secret_files.items():
        warn_of_readers(path, name)
    await _check_address(settings.listen)
    if settings.metrics_listen:
        await _check_address(settings.metrics_listen)
    store = make_store(settings)
    await store.open()
    async with contextlib.AsyncExitStack() as undo:
        undo.push_async_callback(store.close)
        sealer = Sealer(store.token_keys)
        use_cases = Services(
            store,
            sealer,
            settings.limits,
            Defaults(
                idle_timeout=settings.default_idle_timeout,
                max_lifetime=settings.default_max_lifetime,
                unknown_apps=settings.unknown_apps,
                retention=settings.default_retention,
            ),
        )
        use_cases.operations.note_failed = lambda error: _log.error(
            "operation failed", **logs.fault(error)
        )
        forms = WatchForms()
        watching = Watching(
            store, sealer, Hub(store, forms), forms, unknown_apps=settings.unknown_apps
        )
        undo.push_async_callback(watching.hub.close)
        admission = Admission(_budgets(settings))
        metrics = (
            ServerMetrics(store, use_cases, admission, clock, version())
            if settings.metrics_listen
            else None
        )
        rules = warm_rules()
        pipeline = Pipeline(
            rules=rules,
            sealer=sealer,
            request_bytes=settings.max_request_bytes,
            callers=Callers(authentication.gate),
            admission=admission,
            log_calls=settings.log_level == "debug",
            observe=None if metrics is None else metrics.calls.observe,
        )
        facts = ServerFacts(
            version=version(),
            store=store.kind,
            store_version=store.engine_version,
            schema_version=store.schema_version,
            start_time=clock.now(),
        )
        health = Health(store, service_names())
        server = make_server(
            pipeline,
            {
                "SessionService": SessionServicer(use_cases.sessions, use_cases.bulk, watching),
                "TurnService": TurnServicer(use_cases.turns),
                "HistoryService": HistoryServicer(use_cases.history),
                "AppService": AppServicer(use_cases),
                "AdminService": AdminServicer(
                    use_cases,
                    facts,
                    lambda: pipeline.draining,
                    PartDecoder(rules.check, settings.limits),
                    Backups(store, settings.backup_dir),
                ),
            },
            health,
            connections=settings.max_connections,
            streams_per_connection=settings.max_streams_per_connection,
            with_reflection=settings.reflection,
            with_channelz=settings.channelz,
        )
        port = _bind(server, settings.listen, credentials)
        await health.probe()
        await server.start()
        undo.push_async_callback(server.stop, None)
        page: Page | None = None
        if metrics is not None and settings.metrics_listen:
            page = await _serve_page(metrics, settings.metrics_listen)
            undo.push_async_callback(page.close)
        address = Address(split_address(settings.listen).host, port)
        if settings.port_file is not None:
            _write_port(settings.port_file, port)
        _log.info(
            "started",
            version=facts.version,
            python=platform.python_version(),
            grpc=grpc.__version__,
            loop=type(asyncio.get_running_loop()).__module__.partition(".")[0],
            store=store.place,
            store_version=f"{store.kind} {store.engine_version}",
            schema=facts.schema_version,
            listen=str(address),
            tls=credentials is not None,
            authentication=authentication.gate is not None,
            metrics="" if page is None else str(page.address),
        )
        note_removed = None if metrics is None else metrics.note_removed
        note_settled = None if metrics is None else metrics.note_settled
        jobs: dict[str, Callable[[], Awaitable[Any]]] = {
            "expiry": lambda: expiry.run(
                use_cases.units, None, settings.expiry_interval / SECOND, note_settled
            ),
            "retention": lambda: retention.run(use_cases.units, note_removed),
            "purge": lambda: housekeeping.purge(store),
            "unstage": lambda: housekeeping.unstage(use_cases.units),
            "forget": lambda: housekeeping.forget(store, settings.request_keeping),
            "compaction": lambda: compaction.run(
                store, settings.change_keeping, settings.max_changes
            ),
            "audit": lambda: housekeeping.forget_audit(store, settings.audit_keeping),
            "operations": lambda: operations.run(store, use_cases.operations),
            "health": health.run,
            "streams": pipeline.streams.run,
            "reading": pipeline.reading.run,
            **authentication.jobs,
        }
        if metrics is not None:
            jobs["metrics"] = metrics.run
        tasks = [
            asyncio.create_task(supervise(name, job), name=f"sojourn-{name}")
            for name, job in jobs.items()
        ]
        undo.pop_all()
        return RunningServer(
            settings,
            address,
            store,
            pipeline,
            use_cases,
            watching.hub,
            health,
            server,
            page,
            tasks,
        )
    raise AssertionError("unreachable")


def _budgets(settings: Settings) -> Budgets:
    """What callers may take, as set."""
    return Budgets(
        calls=Budget(
            settings.max_calls_per_principal, settings.max_calls_per_app, settings.max_calls
        ),
        streams=Budget(
            settings.max_streams_per_principal, settings.max_streams_per_app, settings.max_streams
        ),
        bytes_in_flight=Budget(
            settings.max_bytes_in_flight_per_principal,
            settings.max_bytes_in_flight_per_app,
            settings.max_bytes_in_flight,
        ),
        running=settings.max_running_calls,
        calls_per_second=settings.calls_per_second,
        calls_burst=settings.calls_burst,
    )


def make_store(settings: Settings) -> Store:
    """The store that the settings name, not opened yet.

    Raises:
        StoreUnusable: Its driver is not installed.
        SettingsError: The file with its connection string cannot be read.
    """
    dsn = settings.postgres_dsn
    if dsn is None:
        return SqliteStore(
            settings.sqlite_path, clock=WallClock(), synchronous=settings.sqlite_synchronous
        )
    try:
        # Here and not above: whoever keeps sessions in a file need not have the driver.
        from sojourn_server.store.postgres import Options, PostgresStore  # noqa: PLC0415
    except ImportError as error:
        raise StoreUnusable(
            f"a store in PostgreSQL needs {error.name or 'psycopg'}: "
            'install it with pip install "sojourn[server,postgres]".'
        ) from None
    return PostgresStore(
        Options(
            dsn,
            size=settings.postgres_connections,
            prepare=settings.postgres_prepare,
            connect_timeout=settings.postgres_connect_timeout / SECOND,
            statement_timeout=settings.postgres_statement_timeout / SECOND,
        )
    )


class RunningServer:
    """A server that answers calls. Made by `start`."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        store: Store,
        pipeline: Pipeline,
        use_cases: Services,
        hub: Hub,
        health: Health,
        server: grpc.aio.Server,
        page: Page | None,
        tasks: list[asyncio.Task[None]],
    ) -> None:
        self.port = address.port
        """The port it listens on."""
        self.metrics_port = None if page is None else page.address.port
        """The port that it serves metrics on; None: it does not."""
        self.target = reach(str(address))
        """What a client on this machine connects to: `127.0.0.1:7070`."""
        self.admission = pipeline.admission
        """Who is let in."""
        self._settings = settings
        self._store = store
        self._pipeline = pipeline
        self._use_cases = use_cases
        self._hub = hub
        self._health = health
        self._server = server
        self._page = page
        self._tasks = tasks
        self._hurry = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None

    async def stop(self, grace: float | None = None) -> None:
        """Drain and stop: nothing that was accepted is lost.

        Health turns NOT_SERVING; new sessions and turns, and whoever waits for a turn,
        are refused with DRAINING;
        live turns that were begun here may finish; then all new calls are refused, and
        running ones finish; then connections, jobs and the store are closed, in this
        order. Safe to call twice.

        Args:
            grace: How long turns and running calls may take, in seconds; None: the
                setting `drain_timeout`. What still runs then is broken off.
        """
        if self._stopping is None:
            seconds = self._settings.drain_timeout / SECOND if grace is None else grace
            self._stopping = asyncio.create_task(self._stop(seconds))
        # Whoever waits may be cancelled; the stopping goes on.
        await asyncio.shield(self._stopping)

    def hurry(self) -> None:
        """Wait for running calls no longer."""
        self._hurry.set()

    async def _stop(self, grace: float) -> None:
        begin = time.monotonic()
        _log.info("draining", running=self._pipeline.running)
        self._pipeline.finishing = True
        self._use_cases.units.line.close()
        await self._health.drain()
        # Each gets a token to go on with elsewhere; what the last turns change is there.
        self._hub.end(draining())
        await self._turns_within(grace)
        self._pipeline.draining = True
        if not await self._idle_within(max(0.0, begin + grace - time.monotonic())):
            _log.warning("breaking off calls", running=self._pipeline.running)
            self._pipeline.evict()
        await self._hub.left(EVICTION_GRACE)
        await self._pipeline.hold()
        # No handler runs any more: what the grace is for are answers on their way out.
        stopped = asyncio.create_task(self._server.stop(STOP_GRACE))
        await asyncio.sleep(LAST_CALLS)
        self._pipeline.release()
        await stopped
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EVICTION_GRACE):
                await self._pipeline.idle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._page is not None:
            await self._page.close()
        await self._hub.close()
        await self._store.close()
        if self._settings.port_file is not None:
            self._settings.port_file.unlink(missing_ok=True)
        _log.info("stopped", seconds=round(time.monotonic() - begin, 3))

    async def _turns_within(self, grace: float) -> None:
        """Wait for live turns, until they are over, time is up, or there is a hurry."""
        until = time.monotonic() + grace
        with contextlib.suppress(StoreDown):
            while time.monotonic() < until and not self._hurry.is_set():
                if not await self._use_cases.turns.live.count():
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TURNS_POLL):
                        await self._hurry.wait()

    async def _idle_within(self, grace: float) -> bool:
        """Wait for running calls, until they are done, time is up, or there is a hurry."""
        idle = asyncio.create_task(self._pipeline.idle())
        hurry = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({idle, hurry}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            return idle.done()
        finally:
            idle.cancel()
            hurry.cancel()


async def supervise(name: str, job: Callable[[], Awaitable[Any]]) -> None:
    """Run a job again whenever it fails, with growing rests in between, until cancelled.

    Args:
        name: What logs call it.
        job: Runs until cancelled.
    """
    rest = RESTART_FIRST
    while True:
        begin = time.monotonic()
        try:
            await job()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Something inside the job was cancelled, not the job.
            _log.error("job lost", job=name)
        except (StoreDown, StoreFull) as error:
            _log.warning("job held up", job=name, why=type(error).__name__, rest=rest)
        except Exception as error:  # noqa: BLE001 - one bad job must not end the others
            _log.error("job failed", job=name, rest=rest, **logs.fault(error))
        if time.monotonic() - begin > RESTART_MOST:
            rest = RESTART_FIRST
        await asyncio.sleep(rest)
        rest = min(rest * 2, RESTART_MOST)


def version() -> str:
    """The release of the server."""
    return metadata.version("sojourn")


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    """Take the port.

    Raises:
        CannotListen: It cannot be had.
    """
    address = str(split_address(listen))
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError:
        port = 0
    if not port:
        cause = "the address" if credentials is None else "the certificate, its key or the address"
        raise CannotListen(f"cannot listen on {listen}: {cause} cannot be used.")
    return port


async def _serve_page(metrics: ServerMetrics, listen: str) -> Page:
    """Serve metrics.

    Raises:
        CannotListen: The port cannot be had.
    """
    # Here, because most servers need none of it, and it takes a while to import.
    from sojourn_server.metrics.page import serve  # noqa: PLC0415

    await metrics.refresh()
    try:
        return await serve(metrics, split_address(listen))
    except OSError as error:
        raise CannotListen(f"cannot listen on {listen}: {error.strerror}.") from None


async def _check_address(listen: str) -> None:
    """Try the address by ourselves, for grpc does not say what is wrong with it.

    Raises:
        CannotListen: It is taken, or none of this machine's.
    """
    address = split_address(listen)
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    usable = False
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        found, failed = [], error
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
            usable = True
        except OSError as error:
            failed = error
            if error.errno == errno.EADDRINUSE:
                break
    # A name may have an address that this machine lacks; one that is taken is a mistake.
    if failed is not None and (not usable or failed.errno == errno.EADDRINUSE):
        raise CannotListen(f"cannot listen on {listen}: {failed.strerror}.") from None


def _write_port(path: Path, port: int) -> None:
    """Write the port so that no reader ever sees half of it.

    Raises:
        SettingsError: The file cannot be written.
    """
    try:
        replace_file(path, f"{port}\n".encode("ascii"))
    except OSError as error:
        raise SettingsError(f"port_file: {path} cannot be written ({error.strerror}).") from None
