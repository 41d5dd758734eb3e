"""Free ports for servers that tests start."""

import socket


def free_port() -> int:
    """Find a loopback port on which nothing is listening."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
