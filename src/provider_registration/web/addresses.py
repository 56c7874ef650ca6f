"""IP addresses as rate limits count them, in any notation."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

MAX_CACHED = 4096  # IP addresses
MAX_LENGTH = 64  # of an IP address with its zone; if every proxy is trusted, clients choose what is cached
IPV6_NETWORK_BITS = 64  # the usual allocation of one customer
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


UNKNOWN = "unknown"


def network_of(host: str) -> str:
    """The network to count: the IPv4 address, even if embedded in an IPv6 address, else the /64 of IPv6.

    All invalid addresses count together as `unknown`.
    """
    return _network_of(host) if len(host) <= MAX_LENGTH else UNKNOWN


@lru_cache(MAX_CACHED)
def _network_of(host: str) -> str:
    try:
        ip = ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(ip, IPv4Address):
        return str(ip)
    if (embedded := _embedded_ipv4(ip)) is not None:
        return str(embedded)
    return str(IPv6Network((int(ip), IPV6_NETWORK_BITS), strict=False))


def _embedded_ipv4(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address behind an IPv6 one: its owner has 65,536 networks in 6to4, and may choose one in Teredo."""
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
