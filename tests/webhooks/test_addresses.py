"""Webhooks are only sent to public IP addresses, however they are written."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import httpx
import pytest

from provider_registration.webhooks.addresses import AddressRules
from provider_registration.webhooks.errors import WebhookUrlRefused
from provider_registration.webhooks.urls import WebhookUrl

PUBLIC = AddressRules()

INTERNAL = {
    "plain": [
        "https://127.0.0.1/",
        "https://127.255.255.254/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://172.31.255.255/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://100.100.100.200/",
        "https://0.0.0.0/",
        "https://0.1.2.3/",
        "https://192.0.0.192/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://240.0.0.1/",
        "https://255.255.255.255/",
        "https://168.63.129.16/",
    ],
    "decimal": ["https://2130706433/", "https://2852039166/", "https://3232235777/"],
    "octal": ["https://0177.0.0.1/", "https://017700000001/", "https://0300.0250.1.1/", "https://127.0.0.01/"],
    "hexadecimal": ["https://0x7f000001/", "https://0x7f.0.0.1/", "https://0xa9fea9fe/", "https://127.0.0.0x1/"],
    "short": ["https://127.1/", "https://10.1/", "https://192.168.257/", "https://0/"],
    "IPv6": [
        "https://[::1]/",
        "https://[::]/",
        "https://[fe80::1]/",
        "https://[fd00:ec2::254]/",
        "https://[fec0::1]/",
        "https://[ff02::1]/",
        "https://[2001:db8::1]/",
        "https://[::7f00:1]/",
    ],
    "IPv4 mapped": ["https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/", "https://[0:0:0:0:0:ffff:10.0.0.1]/"],
    "NAT64": ["https://[64:ff9b::127.0.0.1]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[64:ff9b:1::1]/"],
    "6to4 and Teredo": ["https://[2002:7f00:1::]/", "https://[2002:a9fe:a9fe::]/", "https://[2001:0:7f00:1::]/"],
    "zone": ["https://[fe80::1%25eth0]/", "https://[::1%25lo]/", "https://[2a00:1450::1%251]/"],
    "trailing dot": ["https://127.0.0.1./", "https://localhost./", "https://2130706433./"],
    "wide and circled digits": [
        "https://１２７.０.０.１/",
        "https://127。0。0。1/",
        "https://①②⑦.⓪.⓪.①/",
        "https://ｌｏｃａｌｈｏｓｔ/",
        "https://xn--/",
    ],
    "user": [
        "https://example.com@127.0.0.1/",
        "https://user:password@example.com/",
        "https://127.0.0.1:80@example.com/",
        "https://example.com%40127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
    ],
    "name": [
        "https://localhost/",
        "https://LOCALHOST:8443/",
        "https://sub.localhost/",
        "https://localhost.localdomain/",
        "https://billing/",
        "https://printer.local/",
        "https://metadata.google.internal/",
        "https://router.home.arpa/",
    ],
    "not an URL for us": [
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/",
        "https:///path",
        "https://",
        "https:example.com",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:80:80/",
        "https://example.com/#fragment",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Evil: 1",
        "https://example.com\x00.evil/",
        "https://[::1/",
        "https://::1/",
        "https://exam_ple..com/",
        "https://" + "a" * 64 + ".com/",
        "https://example.com/" + "a" * 2000,
        "https://example.com/" + "é" * 331,
    ],
    "dot segments": [
        "https://example.com/.",
        "https://example.com/..?a",
        "https://example.com/a/../b",
        "https://example.com/a/./b",
        "https://example.com/a/%2e%2E/b",
        "https://example.com/a/.%2e?/",
        "https://example.com/%2e/b",
    ],
}


@pytest.mark.asvs("V1.3.6", "API7")
@pytest.mark.parametrize("text", [url for urls in INTERNAL.values() for url in urls])
def test_a_url_that_leads_inside_is_refused(text):
    with pytest.raises(WebhookUrlRefused):
        WebhookUrl.parse(text, rules=PUBLIC, allow_http=False)


@pytest.mark.parametrize(
    ("text", "canonical", "authority"),
    [
        ("https://example.com", "https://example.com/", "example.com"),
        ("HTTPS://Example.COM:443/Path?Query=1&b=", "https://example.com/Path?Query=1&b=", "example.com"),
        ("https://example.com.:8443/", "https://example.com:8443/", "example.com:8443"),
        ("https://bücher.example/añadir", "https://xn--bcher-kva.example/a%C3%B1adir", "xn--bcher-kva.example"),
        ("https://example.com?token=a%2Fb", "https://example.com/?token=a%2Fb", "example.com"),
        ("https://93.184.215.14/hook", "https://93.184.215.14/hook", "93.184.215.14"),
        ("https://[2606:2800:21F::1]:444/", "https://[2606:2800:21f::1]:444/", "[2606:2800:21f::1]:444"),
        ("https://example.com/user@host/x", "https://example.com/user@host/x", "example.com"),
        (
            "https://hooks.example.com/services/T0/B0/x?",
            "https://hooks.example.com/services/T0/B0/x?",
            "hooks.example.com",
        ),
        (
            "https://example.com/.../.well-known/a./?b=/../c/.",
            "https://example.com/.../.well-known/a./?b=/../c/.",
            "example.com",
        ),
        ("https://example.com/" + "é" * 330, "https://example.com/" + "%C3%A9" * 330, "example.com"),
    ],
)
def test_a_public_url_is_kept_in_one_form(text, canonical, authority):
    url = WebhookUrl.parse(text, rules=PUBLIC, allow_http=False)

    assert str(url) == canonical
    assert url.authority == authority
    assert WebhookUrl.stored(canonical) == url
    assert WebhookUrl.parse(canonical, rules=PUBLIC, allow_http=False) == url
    assert httpx.URL(scheme=url.scheme, host=url.host, raw_path=url.target.encode()).raw_path == url.target.encode()


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8080/", "http://localhost:8080/", "https://receiver/", "http://[::ffff:127.0.0.1]/"]
)
def test_an_operator_can_allow_internal_receivers(text):
    rules = AddressRules([ip_network("127.0.0.0/8")])

    assert WebhookUrl.parse(text, rules=rules, allow_http=True)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_public_ip_addresses_are_permitted(text):
    assert PUBLIC.permits(ip_address(text))


def test_an_allowed_network_opens_only_itself():
    rules = AddressRules([ip_network("10.1.0.0/16"), ip_network("fd00::/16")])

    permitted = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00::1", "8.8.8.8"]
    refused = ["10.2.0.1", "127.0.0.1", "169.254.169.254", "fd01::1", "::1"]
    assert all(rules.permits(ip_address(each)) for each in permitted)
    assert not any(rules.permits(ip_address(each)) for each in refused)
