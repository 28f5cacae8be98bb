"""What this pod lets a builder do, asked by doing it, and the profile that forbids it."""

import contextlib
import logging
import os
from pathlib import Path

from pipeline_tools.adapters import process
from pipeline_tools.adapters.process import Environment
from pipeline_tools.errors import PipelineError

log = logging.getLogger(__name__)

_SYS_ADMIN = 21
"""The number of CAP_SYS_ADMIN (capabilities(7), linux/capability.h)."""
_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
_OWN_ID = ("--user", "--map-root-user")
"""Tried before other ids are: where namespaces are forbidden, `unshare --map-auto` (util-linux 2.38) leaves a child that
waits for ever, and with it whoever waits for its output."""
_SECCOMP = {"0": "no filter", "1": "strict", "2": "a filter"}
"""proc(5), /proc/pid/status, `Seccomp`."""


def unshare(environment: Environment) -> tuple[str, ...]:
    """The words before a command that give it mounts and process ids of its own, and users where it needs that.

    So nothing of it outlives it: its mounts go with it, and so does all it started, even when we are killed
    (setpriv(1), `--pdeathsig`; unshare(1), `--kill-child`). Without root it gets the user ids that are set apart for
    this user (subuid(5)); without these only its own, with which a Dockerfile can copy but not run anything.

    Raises:
        PipelineError: the pod does not allow it; the message says by which profile.
    """
    if _is_admin():
        return _tried((), environment)
    alone = _tried(_OWN_ID, environment)
    try:
        return _tried((*_OWN_ID, "--map-auto"), environment)
    except PipelineError as error:
        log.debug("no other user ids: %s", error)
        return alone


def _tried(users: tuple[str, ...], environment: Environment) -> tuple[str, ...]:
    words = (*_WITH_US, "unshare", *users, "--mount", "--pid", "--fork", "--kill-child", "--")
    done = process.ended(*words, "true", environment=environment)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"ended with {done.returncode}"
        raise PipelineError(
            f"{said} ({profile()})",
            hint="use a runner class whose pods have seccomp and AppArmor Unconfined and default capabilities",
        )
    return words


def profile() -> str:
    """What holds this process: seccomp, AppArmor, no_new_privs."""
    status = _status()
    armour = ""
    with contextlib.suppress(OSError):
        armour = Path("/proc/self/attr/current").read_text().strip("\0\n ")
    seccomp = _SECCOMP.get(status.get("Seccomp", ""), "unknown")
    privileges = "no new privileges" if status.get("NoNewPrivs") == "1" else "new privileges allowed"
    return f"seccomp: {seccomp}, AppArmor: {armour or 'none'}, {privileges}, user {os.geteuid()}"


def _is_admin() -> bool:
    return bool(int(_status().get("CapEff", "0"), 16) >> _SYS_ADMIN & 1)


def _status() -> dict[str, str]:
    """The fields of /proc/self/status (proc(5)); none where there is no such file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
