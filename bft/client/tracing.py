"""Spans of a client's calls, if OpenTelemetry's API is installed (the extra `tracing`); they cost nothing else."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from bft.client.result import Result
from bft.errors import BftError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


def tracer() -> "Tracer | None":
    """The tracer of the process's provider; None if there is no OpenTelemetry."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 (an extra: most programs have none)
    except ImportError:
        return None
    return trace.get_tracer("bft.client")


async def traced(tracer: "Tracer", call: Callable[[], Awaitable[Result]], *, cluster: str, operation: bytes) -> Result:
    """Await ``call`` in a span `bft.call`, which is the current one meanwhile and names what came of it."""
    from opentelemetry.trace import SpanKind  # noqa: PLC0415 (as above)

    attributes: dict[str, str | int] = {"bft.cluster": cluster, "bft.operation.size": len(operation)}
    with tracer.start_as_current_span("bft.call", kind=SpanKind.CLIENT, attributes=attributes) as span:
        try:
            result = await call()
        except BftError as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_attribute("bft.ambiguous", bool(getattr(error, "ambiguous", False)))
            raise
        span.set_attribute("bft.seq", result.seq)
        return result
