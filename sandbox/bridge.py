"""The private network of the sandbox's engine: one bridge, three firewall rules, both taken away again.

`dockerd` could do this by itself, but its rules stay behind when it stops, a second daemon rewrites
them, and it turns the host's FORWARD policy to DROP. So it runs with `--iptables=false`, and every rule
that stands here names its bridge, which is how it is found again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shlex
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.services import plain_env

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "ptbr"
INTERFACES = Path("/sys/class/net")
ROUTES = Path("/proc/net/route")


@dataclass(frozen=True)
class Bridge:
    """A network interface that containers are plugged into, and the size of packet it may send."""

    name: str
    network: IPv4Network
    mtu: int

    @property
    def address(self) -> str:
        return f"{self.network[1]}/{self.network.prefixlen}"


@contextlib.contextmanager
def bridge() -> Iterator[Bridge]:
    """Containers on this bridge reach what this machine reaches; root only."""
    _sweep()
    made = Bridge(_free_name(), _free_network(), _uplink_mtu())
    try:
        _up(made)
        yield made
    finally:
        _down(made.name)


def _up(made: Bridge) -> None:
    _run("ip", "link", "add", made.name, "type", "bridge")
    _run("ip", "address", "add", made.address, "dev", made.name)
    _run("ip", "link", "set", made.name, "up")
    _run("iptables", "-w", "-I", "FORWARD", "-i", made.name, "-j", "ACCEPT")
    _run("iptables", "-w", "-I", "FORWARD", "-o", made.name, "-j", "ACCEPT")
    source = ["-s", str(made.network), "!", "-o", made.name]
    _run("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", *source, "-j", "MASQUERADE")


def _down(name: str) -> None:
    for table, chain in (("filter", "FORWARD"), ("nat", "POSTROUTING")):
        for rule in _run("iptables", "-w", "-t", table, "-S", chain).splitlines():
            words = shlex.split(rule)
            if name in words:
                _run("iptables", "-w", "-t", table, "-D", *words[1:])
    if (INTERFACES / name).exists():
        _run("ip", "link", "delete", name)


def _sweep() -> None:
    """Take away what a killed run of ours left: a bridge whose number is no process any more."""
    for found in INTERFACES.glob(f"{PREFIX}*"):
        owner = found.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            _down(found.name)


def _free_name() -> str:
    """Process number and a count; an interface's name has 15 characters at most."""
    names = (f"{PREFIX}{os.getpid()}-{count}" for count in itertools.count())
    return next(name for name in names if not (INTERFACES / name).exists())


def _free_network() -> IPv4Network:
    taken = {row[1] for row in _routes()}
    candidates = [IPv4Network(f"10.231.{n}.0/24") for n in range(256)]
    random.shuffle(candidates)
    return next(network for network in candidates if _little_endian(network) not in taken)


def _uplink_mtu() -> int:
    # A bridge with larger packets than the way out loses them silently: builds hang at their first download.
    uplinks = [row[0] for row in _routes() if row[1] == "00000000"]
    sizes = [int((INTERFACES / name / "mtu").read_text("ascii")) for name in uplinks]
    return min(sizes, default=1500)


def _routes() -> list[list[str]]:
    return [line.split() for line in ROUTES.read_text("ascii").splitlines()[1:]]


def _little_endian(network: IPv4Network) -> str:
    return network.network_address.packed[::-1].hex().upper()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=plain_env())
    if done.returncode:
        raise RuntimeError(f"{shlex.join(argv)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout
