"""Whose a request is: what fairness is among."""

from __future__ import annotations

import ipaddress


def client_of(address: str) -> str:
    """The client at an address; of IPv6 its network, because one client has all addresses in it."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if known.version == 4:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False))
