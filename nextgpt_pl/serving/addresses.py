"""Addresses on the public net."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SITE_LOCAL = ipaddress.ip_network("fec0::/10")


def is_public(address: str) -> bool:
    """Whether an IP address is on the public net, and so is the IPv4 address that an IPv6 address may contain.

    >>> is_public("1.1.1.1"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1")
    (True, False, False)

    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _SITE_LOCAL:
            return False
        translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ()), translated]
        if not all(v4.is_global for v4 in inner if v4 is not None):
            return False
    return ip.is_global and not ip.is_multicast
