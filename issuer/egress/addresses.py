"""Which addresses count as outside: public ones, and none that hides another inside."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

Resolve = Callable[[str, int], Awaitable[list[str]]]

MAX_ADDRESSES: Final = 64
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_COMPATIBLE: Final = IPv6Network("::/96")


class NotOutside(Exception):
    """A name that does not lead outside."""


def is_public(text: str) -> bool:
    """Whether this address may be connected to.

    `ipaddress` alone passes multicast, and addresses with an IPv4 address embedded in them that is not
    public: those are judged by what is inside as well.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if not _judged(address):
        return False
    return all(_judged(inner) for inner in embedded(address))


def embedded(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address, by every scheme that anybody routes by."""
    if isinstance(address, IPv4Address):
        return []
    found = []
    low = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address in _NAT64 or address in _LOCAL_NAT64 or address in _COMPATIBLE:
        found.append(low)
    if address in _SIX_TO_FOUR:
        found.append(IPv4Address(int(address) >> 80 & 0xFFFFFFFF))
    if address in _TEREDO:
        found.append(IPv4Address(int(address) >> 64 & 0xFFFFFFFF))
        found.append(IPv4Address(int(low) ^ 0xFFFFFFFF))
    return found


def _judged(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address in _LOCAL_NAT64:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback
        or address.is_link_local or address.is_private
    )  # fmt: skip


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, from the system's resolver.

    Raises:
        NotOutside: it has none.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotOutside("The name has no address.") from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


async def outside_address(host: str, port: int, resolver: Resolve = resolve) -> str:
    """The one address to connect to: all addresses of the name are public, and it is the first of them.

    Asked once; who connects, connects to this address, so that a name that changes is of no use.

    Raises:
        NotOutside: one of them is not public, or there are none.
    """
    addresses = await resolver(host, port)
    if not addresses or len(addresses) > MAX_ADDRESSES:
        raise NotOutside("The name has no address.")
    if not all(is_public(address) for address in addresses):
        raise NotOutside("The name leads to an address that is not public.")
    return addresses[0]
