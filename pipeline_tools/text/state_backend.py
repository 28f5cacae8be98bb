"""Where a root's Terraform state is kept: `--state`, and the words that tell `terraform init`.

Sources: developer.hashicorp.com/terraform/language/backend/http, /gcs and /s3;
docs.gitlab.com/user/infrastructure/iac/terraform_state; Scaleway's "Storing Terraform states" (Object Storage).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from pipeline_tools.errors import PipelineError
from pipeline_tools.text import references

DEFAULT = "gitlab:{root}"
ROOT = "{root}"
HINT = "write gitlab:NAME, gs://BUCKET/PREFIX, s3://BUCKET/KEY?region=fr-par or configured; {root} stands for the root's name"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""A name without characters that need quoting; GitLab itself asks for no slash (state_name in its API)."""
_SLUG = re.compile(r"[A-Za-z0-9._+-]+")
"""docs.gitlab.com/user/packages/generic_packages, "Valid package filename format" and its neighbours."""
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_KEY = re.compile(r"[A-Za-z0-9_{][A-Za-z0-9._/{}-]*")
_REGION = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class StateBackend:
    """A place for one root's state.

    `type` is the backend's name in Terraform, empty where the root's own block says all; `name` says the place to
    people, and is the same for the same state. `settings` are backend settings by name; none of them is a secret.
    """

    type: str
    name: str
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The arguments of `terraform init`; they win over what the root's backend block says."""
        return tuple(f"-backend-config={name}={value}" for name, value in self.settings)


def slug(root: str) -> str:
    """A root's path as one word: `scaleway/network` → `scaleway-network`; the checkout itself is `root`."""
    return root.strip("/").replace("/", "-") if root not in {"", "."} else "root"


def own_names(roots: Iterable[str], every: Iterable[str]) -> None:
    """See that each of the `roots` can have a slug, and of `every` root one of its own: states, plans and packages have it.

    Raises:
        PipelineError: a name has what a package's may not; `a/b` and `a-b` have one slug.
    """
    for root in roots:
        if not _SLUG.fullmatch(slug(root)):
            raise PipelineError(
                f"the root {root!r} has characters that no package of GitLab may have in its name",
                hint="rename the folder: letters, digits, . _ + and -",
            )
    known: dict[str, str] = {}
    for root in sorted(every):
        other = known.setdefault(slug(root), root)
        if other != root:
            raise PipelineError(
                f"the roots {other} and {root} would have one name, {slug(root)}, for state, plan and passport",
                hint="rename one of the folders",
            )


def parse(text: str, root: str, api: str) -> StateBackend:
    """The backend that `--state` names for a root.

    Args:
        text: `gitlab[:NAME]`, `gs://BUCKET/PREFIX`, `s3://BUCKET/KEY[?region=…&endpoint=…]` or `configured`;
            `{root}` in it stands for the root's slug.
        root: the root's path in the checkout.
        api: the GitLab project's API address, for `gitlab`.

    Raises:
        PipelineError: it is none of these.
    """
    if text == "configured":
        return StateBackend("", f"configured in {root}")
    filled = (DEFAULT if text == "gitlab" else text).replace(ROOT, slug(root))
    scheme = filled.partition(":")[0]
    kinds = {"gitlab": _gitlab, "gs": _gcs, "s3": _s3}
    made = kinds[scheme](filled, api) if scheme in kinds else None
    if made is None:
        raise PipelineError(f"--state {text!r} is no place for a state", hint=HINT)
    return made


def distinct(text: str, roots: Iterable[str], api: str) -> dict[str, StateBackend]:
    """The backend of each root, each with a state of its own.

    Raises:
        PipelineError: two roots would share one state.
    """
    found = {root: parse(text, root, api) for root in roots}
    names = [backend.name for backend in found.values()]
    for root, backend in found.items():
        if names.count(backend.name) > 1:
            raise PipelineError(f"{root} would share the state {backend.name} with another root", hint=HINT)
    return found


def _gitlab(text: str, api: str) -> StateBackend | None:
    name = text.partition(":")[2]
    if not _NAME.fullmatch(name):
        return None
    address = f"{api}/terraform/state/{quote(name, safe='')}"
    settings = {
        "address": address,
        "lock_address": f"{address}/lock",
        "unlock_address": f"{address}/lock",
        "lock_method": "POST",
        "unlock_method": "DELETE",
        "update_method": "POST",
        "retry_wait_min": "5",
    }
    return StateBackend("http", f"gitlab:{name}", tuple(settings.items()))


def _gcs(text: str, _api: str) -> StateBackend | None:
    found = urlsplit(text)
    prefix = found.path.strip("/")
    if not _BUCKET.fullmatch(found.netloc) or not _is_key(prefix) or found.query:
        return None
    return StateBackend("gcs", text, (("bucket", found.netloc), ("prefix", prefix)))


def _s3(text: str, _api: str) -> StateBackend | None:
    """Scaleway's Object Storage: `use_lockfile` locks without a table, and AWS's own checks do not apply."""
    found = urlsplit(text)
    query = dict(parse_qsl(found.query))
    region = query.pop("region", "fr-par")
    endpoint = query.pop("endpoint", f"https://s3.{region}.scw.cloud")
    key = found.path.strip("/")
    is_sound = _BUCKET.fullmatch(found.netloc) and _is_key(key) and _REGION.fullmatch(region)
    if not is_sound or query or not references.origin(endpoint).startswith("http"):
        return None
    given = {"bucket": found.netloc, "key": key, "region": region, "endpoints": json.dumps({"s3": endpoint})}
    return StateBackend(
        "s3", f"s3://{found.netloc}/{key}", (*given.items(), *((name, "true") for name in _FLAGS))
    )


_FLAGS = (
    "use_lockfile",
    "use_path_style",
    "skip_credentials_validation",
    "skip_metadata_api_check",
    "skip_region_validation",
    "skip_requesting_account_id",
    "skip_s3_checksum",
)


def _is_key(path: str) -> bool:
    return bool(_KEY.fullmatch(path)) and not {"..", "."} & set(path.split("/"))
