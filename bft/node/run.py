"""The life of a replica's process, from its directory to its exit code."""

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import Final

import structlog
import uvloop

from bft import telemetry
from bft.admin.server import AdminServer
from bft.config import ReplicaConfig, load_replica
from bft.core.replica import Replica
from bft.errors import BftError, ExitCode
from bft.node.node import Node, ReplicaFactory, StateFactory
from bft.node.status import status_of
from bft.statemachine.replicated import ReplicatedState

# The log's writer thread asks for the interpreter after each system call; with the default of 5 ms it would wait that
# long, twice a commit, whenever the protocol is busy.
_SWITCH_INTERVAL_S: Final = 0.0005
# Messages are trees, so reference counts free them; the collector need not look at every 700th object.
_COLLECTOR_THRESHOLDS: Final = (50_000, 20, 50)
_log = structlog.get_logger()


def run(
    directory: Path, *, make_replica: ReplicaFactory = Replica, make_state: StateFactory = ReplicatedState
) -> ExitCode:
    """Run the replica configured in `directory` until SIGTERM or SIGINT; the exit code says how it ended."""
    try:
        config = load_replica(directory)
    except BftError as error:
        return _fail(error)
    telemetry.configure(config.log_level)
    structlog.contextvars.bind_contextvars(replica=config.id)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, make_replica=make_replica, make_state=make_state))
    except BftError as error:
        return _fail(error)
    except Exception:  # noqa: BLE001 (the top of the process: our own bug stops the replica, and is told in full)
        _log.critical("stopped by a bug", exc_info=True)
        return ExitCode.FAILED
    return ExitCode.OK


async def serve(
    config: ReplicaConfig, *, make_replica: ReplicaFactory = Replica, make_state: StateFactory = ReplicatedState
) -> None:
    """Serve until SIGTERM or SIGINT.  Raises the one BftError, or bug, that stopped the replica."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node(config, make_replica=make_replica, make_state=make_state)
    admin = AdminServer(config.listen_admin, lambda: status_of(node), phases=node.phases.document)
    try:
        node.bind()
        await admin.start()
        gc.freeze()  # what is there now stays
        _log.info(
            "serving",
            peer=str(config.listen_peer),
            client=str(config.listen_client),
            admin=str(config.listen_admin),
            durability=str(config.durability),
        )
        await _until(stop, node)
    finally:
        await admin.stop()
        await node.close()
    _log.info("stopped", last_executed=node.core.last_executed)


async def _until(stop: asyncio.Event, node: Node) -> None:
    running = asyncio.ensure_future(node.run())
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        running.cancel()
        results = await asyncio.gather(running, stopping, return_exceptions=True)
    if isinstance(results[0], BaseException) and not isinstance(results[0], asyncio.CancelledError):
        raise _cause(results[0])


def _cause(error: BaseException) -> BaseException:
    """The error that stopped the group of tasks; one that is for the user comes before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, BftError)), causes[0])


def _fail(error: BftError) -> ExitCode:
    sys.stderr.write(f"error: {error}\n")
    return error.exit_code
