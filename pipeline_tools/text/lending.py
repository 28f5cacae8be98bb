"""What is lent to a child: which field of which path under which name. Pure; no value is ever here.

`NAME=PATH#FIELD[@VERSION][:base64][:file]`. The path is the API path as people write it (`secret/app`, without
KV v2's `data/`), the version is KV v2's, `:base64` decodes the value, `:file` puts it into a private file in memory and
its path into the variable.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline_tools.errors import PipelineError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WANT = re.compile(
    r"(?P<name>[^=]*)=/*(?P<path>[^#]+?)/*#(?P<field>.+?)(?:@(?P<version>[1-9]\d*))?(?P<forms>(?::(?:base64|file))*)"
)
_BELOW = re.compile(r"(?P<prefix>[^=]*)=/*(?P<path>[^#]+?)/*")
_PASSED_ON = (
    "PATH",
    "HOME",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "PYTHONPATH",
    "NODE_OPTIONS",
)
"""Variables that choose which program runs, or how: a path below which anybody may write must not set them."""


@dataclass(frozen=True)
class Want:
    """One variable of the child and where its value stands. `is_secret`: masked wherever it is printed."""

    name: str
    path: str
    field: str
    version: int | None = None
    is_base64: bool = False
    is_file: bool = False
    is_secret: bool = True

    def __str__(self) -> str:
        return f"{self.path}#{self.field}" + (f"@{self.version}" if self.version else "")


@dataclass(frozen=True)
class Below:
    """Every field of the secret `path`, and of all secrets below it, as secrets: `PREFIX` + relative path + field."""

    prefix: str
    path: str

    def want(self, path: str, field: str) -> Want:
        """The variable for one field found at `path`."""
        rest = path.removeprefix(self.path).strip("/")
        words = f"{rest}_{field}" if rest else field
        name = self.prefix + re.sub(r"\W", "_", words, flags=re.ASCII).upper()
        if not _NAME.fullmatch(name) or name in _PASSED_ON:
            raise PipelineError(
                f"{path}#{field} would become the variable {name!r}",
                hint="choose another prefix, or name it with --secret",
            )
        return Want(name, path, field)


def want(text: str, *, is_secret: bool) -> Want:
    """Parse `NAME=PATH#FIELD[@VERSION][:base64][:file]`.

    Raises:
        ValueError: it is not of that form.
    """
    found = _WANT.fullmatch(text)
    if not found or not _NAME.fullmatch(found["name"]):
        raise ValueError(f"{text!r} is not NAME=PATH#FIELD[@VERSION][:base64][:file]")
    version = int(found["version"]) if found["version"] else None
    forms = found["forms"]
    return Want(
        found["name"], found["path"], found["field"], version, ":base64" in forms, ":file" in forms, is_secret
    )


def below(text: str) -> Below:
    """Parse `PREFIX=PATH`; the prefix may be empty.

    Raises:
        ValueError: it is not of that form.
    """
    found = _BELOW.fullmatch(text)
    if not found or not (found["prefix"] == "" or _NAME.fullmatch(found["prefix"])):
        raise ValueError(f"{text!r} is not PREFIX=PATH")
    return Below(found["prefix"], found["path"])


def scaleway(project: str, *, with_s3: bool = False) -> tuple[Want, ...]:
    """The platform's three paths of a Scaleway project, by the names that its tools read.

    `with_s3` adds the pair that Terraform's S3 backend reads (scaleway.com/en/docs/terraform, "remote backend").
    """
    mount = f"scaleway/project/{project}"
    access, secret = f"{mount}/credentials/access", f"{mount}/credentials/secret"
    found = [
        Want("SCW_ACCESS_KEY", access, "key", is_secret=False),
        Want("SCW_SECRET_KEY", secret, "key"),
        Want("SCW_DEFAULT_PROJECT_ID", f"{mount}/config", "id", is_secret=False),
    ]
    if with_s3:
        found.append(Want("AWS_ACCESS_KEY_ID", access, "key", is_secret=False))
        found.append(Want("AWS_SECRET_ACCESS_KEY", secret, "key"))
    return tuple(found)


def distinct(wants: Iterable[Want]) -> tuple[Want, ...]:
    """The wants, each name once.

    Raises:
        PipelineError: two of them have one name and different places.
    """
    by_name: dict[str, Want] = {}
    for each in wants:
        other = by_name.setdefault(each.name, each)
        if other != each:
            raise PipelineError(
                f"{each.name} is wanted twice: {other} and {each}", hint="give each a name of its own"
            )
    return tuple(by_name.values())


def by_place(wants: Iterable[Want]) -> Iterator[tuple[str, int | None]]:
    """Each path with version once, in order."""
    yield from dict.fromkeys((each.path, each.version) for each in wants)
