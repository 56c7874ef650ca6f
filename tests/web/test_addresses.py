"""The client that limits apply to: one IP address, whatever its notation."""

from __future__ import annotations

import pytest

from provider_registration.web import addresses
from provider_registration.web.addresses import network_of


@pytest.mark.asvs("V15.3.4")
@pytest.mark.parametrize(
    "written",
    [
        "203.0.113.7",
        "::ffff:203.0.113.7",
        "::FFFF:cb00:7107",
        "0:0:0:0:0:ffff:cb00:7107",
        "64:ff9b::203.0.113.7",
        "64:FF9B:0::CB00:7107",
        "2002:cb00:7107::1",
        "2002:cb00:7107:ffff::2",
        "2001:0:4136:e378:8000:63bf:34ff:8ef8",
        "2001:0:1:1:0:1:34ff:8ef8",
    ],
)
def test_an_ipv4_address_is_one_in_every_notation(written):
    assert network_of(written) == "203.0.113.7"


@pytest.mark.asvs("V15.3.4")
@pytest.mark.parametrize(
    "written",
    [
        "2001:db8:1:2::1",
        "2001:DB8:1:2:ffff::",
        "2001:0db8:0001:0002:0:0:0:9",
        "2001:db8:1:2::1%eth0",
        "2001:db8:1:2::%x",
    ],
)
def test_an_ipv6_network_is_one_whatever_comes_after_it(written):
    assert network_of(written) == "2001:db8:1:2::/64"


def test_networks_of_ipv6_are_told_apart():
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")


@pytest.mark.parametrize(
    "written", ["", "unknown", "010.0.0.1", "1.2.3", "_hidden", "1.2.3.4.5", "0x7f.1", "\u0661.2.3.4", "1" * 30_000]
)
def test_what_is_no_address_counts_together(written):
    """Some programs read a leading zero as octal: it must not give a client a second counter."""
    assert network_of(written) == "unknown"


def test_what_is_too_long_for_an_address_is_not_remembered():
    remembered = addresses._network_of.cache_info().currsize
    for number in range(10):
        network_of(f"{number}" * 30_000)

    assert addresses._network_of.cache_info().currsize == remembered
