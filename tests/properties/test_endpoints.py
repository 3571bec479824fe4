"""Endpoints: one identifier of each kind."""

from __future__ import annotations

import re

import pytest

from taps_security.properties.endpoints import LocalEndpoint, RemoteEndpoint
from taps_security.stack.errors import ConfigurationError


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        (RemoteEndpoint(host_name="server.example", port=443), "server.example:443"),
        (RemoteEndpoint(host_name="server.example", service="https"), "server.example:https"),
        (RemoteEndpoint(ip_address="2001:DB8::0:1", port=443), "[2001:db8::1]:443"),
        (RemoteEndpoint(ip_address="192.0.2.1"), "192.0.2.1"),
        (LocalEndpoint(port=0), "*:0"),
        (LocalEndpoint(), "*"),
    ],
)
def test_endpoints_in_words(endpoint: LocalEndpoint | RemoteEndpoint, shown: str) -> None:
    assert str(endpoint) == shown


def test_a_zone_is_an_interface() -> None:
    endpoint = RemoteEndpoint(ip_address="fe80::0:1%eth0", port=1)
    assert (endpoint.ip_address, endpoint.interface) == ("fe80::1%eth0", "eth0")
    assert RemoteEndpoint(ip_address="fe80::1%eth0", interface="eth0", port=1) == endpoint


def test_host_is_the_name_if_there_is_one() -> None:
    assert RemoteEndpoint(host_name="a.example", ip_address="192.0.2.1", port=1).host == "a.example"
    assert RemoteEndpoint(ip_address="192.0.2.1").replace(port=5).port == 5


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "RemoteEndpoint: no host was given, expected host_name or ip_address"),
        ({"host_name": "", "port": 1}, "RemoteEndpoint.host_name: '' was given, expected a string that is not empty"),
        ({"host_name": "192.0.2.1"}, "RemoteEndpoint.host_name: '192.0.2.1' was given, expected a name; an address"),
        ({"host_name": "a b"}, "RemoteEndpoint.host_name: 'a b' was given, expected a host name"),
        ({"host_name": "a:443"}, "RemoteEndpoint.host_name: 'a:443' was given, expected a host name"),
        ({"host_name": "a..b"}, "RemoteEndpoint.host_name: 'a..b' was given, expected labels of 1 to 63 characters"),
        ({"host_name": "x" * 64}, "RemoteEndpoint.host_name: "),
        ({"host_name": "x." * 200}, "RemoteEndpoint.host_name: "),
        ({"ip_address": "300.0.0.1"}, "RemoteEndpoint.ip_address: '300.0.0.1' was given, expected an IPv4 or IPv6"),
        ({"ip_address": "192.0.2.1%eth0"}, "RemoteEndpoint.ip_address: '192.0.2.1%eth0' was given, expected a zone"),
        ({"ip_address": "fe80::1%"}, "RemoteEndpoint.ip_address: 'fe80::1%' was given, expected a zone"),
        (
            {"ip_address": "fe80::1%eth0", "interface": "eth1"},
            "RemoteEndpoint.ip_address: zone 'eth0' contradicts interface 'eth1'",
        ),
        ({"host_name": "a", "port": 0}, "RemoteEndpoint.port: 0 was given, expected a port from 1 to 65535"),
        ({"host_name": "a", "port": 65536}, "RemoteEndpoint.port: 65536 was given, expected a whole number from 0"),
        ({"host_name": "a", "port": "443"}, "RemoteEndpoint.port: '443' was given, expected a whole number"),
        (
            {"host_name": "a", "port": 1, "service": "https"},
            "RemoteEndpoint: port 1 and service 'https' were given, expected one",
        ),
        ({"host_name": "a", "service": ""}, "RemoteEndpoint.service: '' was given"),
        ({"host_name": "a", "interface": 5}, "RemoteEndpoint.interface: 5 was given"),
        ({"host_name": "a", "protocol": ""}, "RemoteEndpoint.protocol: '' was given"),
    ],
)
def test_refusals(values: dict, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(text)}"):
        RemoteEndpoint(**values)
