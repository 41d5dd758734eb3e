"""Limits on connections that have not sent the headers of a request, in Serve's HTTP proxy, where no guard sees them.

Uvicorn, which the proxy runs, has neither. Serve calls `limit_headers` in each proxy of a cluster with `environment`.
"""

import os
from typing import Any

from rapo_ray.config.serving import EndpointLimits

SECONDS, CONNECTIONS = "RAPO_HEADER_SECONDS", "RAPO_HEADER_CONNECTIONS"
LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def environment(limits: EndpointLimits) -> dict[str, str]:
    """Environment variables of a cluster whose proxies are to keep these limits."""
    return {
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": f"{__name__}.{limit_headers.__name__}",
        SECONDS: str(limits.header_seconds),
        CONNECTIONS: str(limits.header_connections),
    }


def limit_headers() -> list[Any]:
    """Make uvicorn's protocol in this process keep the limits of the environment; no middleware is needed for it."""
    from uvicorn.protocols.http import auto

    defaults = environment(EndpointLimits())
    seconds, connections = (os.environ.get(name, defaults[name]) for name in (SECONDS, CONNECTIONS))
    auto.AutoHTTPProtocol = limited(auto.AutoHTTPProtocol, Waiting(float(seconds), int(connections)))
    return []


class Waiting:
    """The connections whose next request has begun, or is the first, and has no complete headers yet."""

    def __init__(self, seconds: float, connections: int) -> None:
        self._seconds = seconds
        self._connections = connections
        self._timers: dict[Any, Any] = {}  # by protocol, oldest first

    def begin(self, protocol: Any) -> None:
        """Wait for a connection's headers; one connection too many closes the oldest."""
        if protocol in self._timers:
            return
        if len(self._timers) >= self._connections:
            self._close(next(iter(self._timers)))
        self._timers[protocol] = protocol.loop.call_later(self._seconds, self._close, protocol)

    def end(self, protocol: Any) -> None:
        """Wait no more."""
        if (timer := self._timers.pop(protocol, None)) is not None:
            timer.cancel()

    def _close(self, protocol: Any) -> None:
        self.end(protocol)
        protocol.transport.write(LATE)
        protocol.transport.close()


def limited(base: Any, waiting: Waiting) -> Any:
    """Uvicorn's protocol on httptools, with these limits."""

    class Limited(base):  # type: ignore[misc]
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            waiting.begin(self)

        def connection_lost(self, exc: Exception | None) -> None:
            waiting.end(self)
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            waiting.begin(self)

        def on_headers_complete(self) -> None:
            waiting.end(self)
            super().on_headers_complete()

    return Limited
