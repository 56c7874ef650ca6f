"""Which IP addresses a webhook may be sent to: public ones, and those that the operator allows."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

# Spelled out, since `ipaddress.is_global` differs between Python versions: IANA's special-purpose registries,
# multicast, and the IP address at which Azure serves its virtual machines.
NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, for its guests
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "2001::/23",  # IETF protocols, with Teredo and ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
UNICAST_V6 = IPv6Network("2000::/3")  # the only part of IPv6 that is allocated for global unicast
NAT64 = IPv6Network("64:ff9b::/96")


class AddressRules:
    """Decides about IP addresses."""

    def __init__(self, allowed: Sequence[IPNetwork] = ()) -> None:
        """`allowed`: networks that are permitted although they are not public."""
        self.allowed = tuple(allowed)

    def permits(self, address: IPAddress) -> bool:
        """Whether a webhook may be sent there. An IPv4 address embedded in IPv6 counts as itself."""
        address = _unwrapped(address)
        return _is_public(address) or any(address in network for network in self.allowed)


def _unwrapped(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for: mapped, or behind NAT64 (RFC 6052)."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: IPAddress) -> bool:
    if isinstance(address, IPv6Address) and (address not in UNICAST_V6 or address.scope_id):
        return False
    return not any(address in network for network in NOT_PUBLIC)
