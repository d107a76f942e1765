"""Where a server is: on this machine or elsewhere."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_on_this_machine(url: str) -> bool:
    """Whether a server listens on this machine's loopback, which no proxy can reach for us.

    Args:
        url: the server's address.
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
