"""Network addresses as limits count them, however they are written."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

MAX_REMEMBERED = 4096  # addresses
MAX_LENGTH = 64  # of an address, with its zone; where every proxy is trusted, a caller writes what is remembered
IPV6_NETWORK_BITS = 64  # what one customer is commonly given
NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv4 address in its last 32 bits


UNKNOWN = "unknown"


def network_of(host: str) -> str:
    """The network to count for: the IPv4 address, also where it is inside an IPv6 one, else the /64 of IPv6.

    What is no address is `unknown`, all of it together.
    """
    return _network_of(host) if len(host) <= MAX_LENGTH else UNKNOWN


@lru_cache(MAX_REMEMBERED)
def _network_of(host: str) -> str:
    try:
        address = ip_address(host)
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv4Address):
        return str(address)
    if (inside := _ipv4_inside(address)) is not None:
        return str(inside)
    return str(IPv6Network((int(address), IPV6_NETWORK_BITS), strict=False))


def _ipv4_inside(address: IPv6Address) -> IPv4Address | None:
    """Whose address it really is: who has one IPv4 address has 65,536 networks of 6to4, and may choose in Teredo."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
