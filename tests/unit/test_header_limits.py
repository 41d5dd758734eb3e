"""Connections without complete headers: each has its time, and their number is bounded."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from rapo_ray.config.serving import EndpointLimits
from rapo_ray.serving.headers import Waiting, environment, limit_headers, limited

pytestmark = pytest.mark.unit


class Timer:
    """A timer of the fake loop."""

    def __init__(self, seconds: float, callback: Callable[..., None], argument: Any) -> None:
        self.seconds, self._callback, self._argument = seconds, callback, argument
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def fire(self) -> None:
        assert not self.cancelled
        self._callback(self._argument)


class Loop:
    """A loop whose time passes when a test says so."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, callback: Callable[..., None], argument: Any) -> Timer:
        self.timers.append(Timer(seconds, callback, argument))
        return self.timers[-1]


class Transport:
    """A transport that records its end."""

    def __init__(self) -> None:
        self.sent, self.closed = b"", False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Protocol:
    """The callbacks of uvicorn's protocol."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None: ...

    def on_message_begin(self) -> None: ...

    def on_headers_complete(self) -> None: ...


def connected(waiting: Waiting, loop: Loop) -> Any:
    protocol = limited(Protocol, waiting)(loop)
    protocol.connection_made(Transport())
    return protocol


def test_a_connection_without_headers_is_closed_with_408() -> None:
    loop = Loop()
    protocol = connected(Waiting(10, 5), loop)
    protocol.on_message_begin()
    (timer,) = loop.timers  # of the connection: its first bytes give it no more time
    assert timer.seconds == 10
    timer.fire()
    assert protocol.transport.closed and protocol.transport.sent.startswith(b"HTTP/1.1 408 ")


def test_complete_headers_end_the_wait_and_the_next_request_begins_another() -> None:
    loop = Loop()
    protocol = connected(Waiting(10, 5), loop)
    protocol.on_headers_complete()
    assert loop.timers[0].cancelled and not protocol.transport.closed
    protocol.on_message_begin()
    loop.timers[1].fire()
    assert protocol.transport.closed


def test_one_connection_too_many_closes_the_oldest() -> None:
    loop, waiting = Loop(), Waiting(10, 2)
    first, second, gone = (connected(waiting, loop) for _ in range(3))
    assert [one.transport.closed for one in (first, second, gone)] == [True, False, False]
    gone.connection_lost(None)
    fourth = connected(waiting, loop)
    assert [one.transport.closed for one in (second, fourth)] == [False, False]


def test_the_proxy_takes_the_limits_from_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from uvicorn.protocols.http import auto

    monkeypatch.setattr(auto, "AutoHTTPProtocol", Protocol)
    for name, value in environment(EndpointLimits(header_seconds=2.5, header_connections=7)).items():
        monkeypatch.setenv(name, value)
    assert os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "rapo_ray.serving.headers.limit_headers"
    assert limit_headers() == []
    loop = Loop()
    protocol: Any = auto.AutoHTTPProtocol(loop)  # type: ignore[call-arg, arg-type]
    protocol.connection_made(Transport())
    assert loop.timers[0].seconds == 2.5
