"""Defaults from the user's own include: the inputs of our template in `./.gitlab-ci.yml`, outside CI only.

Inside CI the template hands its inputs over as variables; on a laptop the same words are read from the same
place, so that a dry run needs no option. An input has the name of the option's parameter.
"""

import logging
import re
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline_tools.errors import PipelineError
from pipeline_tools.text.printing import printable

log = logging.getLogger(__name__)

FILE = ".gitlab-ci.yml"
_OURS = re.compile(r"(^|/)ci_templates/[a-z]+\.yml$|(^|/)(release|terraform)@[^/]+$")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\}|\[\[)")

INPUTS = frozenset(
    {
        "allow_downgrade",
        "attest",
        "base_pinned",
        "build_arg",
        "cache",
        "candidate_repository",
        "context",
        "env_branch",
        "env_project",
        "file",
        "git_context",
        "grace",
        "image",
        "licenses",
        "lock_timeout",
        "max_deletes",
        "max_size",
        "moving",
        "overlay",
        "pin",
        "platform",
        "repository",
        "require_label",
        "require_non_root",
        "root",
        "tag_pattern",
        "target",
        "timeout",
        "var_file",
        "wait",
    }
)
"""What an include may say: the templates' inputs that are options. Nothing else of the file is believed; a
checkout must not choose where credentials go (`docker_host`, `gitlab_url`) or which file holds one."""

NOT_BELIEVED = frozenset(
    {
        "allow_provider",
        "builder",
        "google_service_account",
        "google_workload_identity_provider",
        "plan_recipient",
        "registry_auth",
        "scaleway",
        "state",
        "terraform_binary",
        "value",
        "vault_address",
        "vault_auth",
    }
)
"""Inputs that are options, and that only a job believes: what is lent to the checkout's code and by whom, where its
state goes, which programs run. A person who plans in somebody's checkout says these."""

OF_THE_JOBS = frozenset(
    {
        "apply_secret",
        "apply_stage",
        "apply_tags",
        "apply_vault_role",
        "auto_apply",
        "build_services",
        "check_stage",
        "environment_name",
        "google_audience",
        "job_prefix",
        "plan_secret",
        "plan_stage",
        "plan_tags",
        "plan_vault_role",
        "stage",
        "tools_image",
        "vault_audience",
        "vault_identity",
    }
)
"""The templates' other inputs, which shape jobs and say nothing here."""


class IncludeInputs(MutableMapping[str, Any]):
    """Serves as click's `default_map` for every command at once; the file is read when the first default is looked up."""

    def __init__(self, directory: Path, commands: frozenset[str]) -> None:
        self._path = _upwards(directory) / FILE
        self._commands = commands

    def get(self, key: str, default: Any = None) -> Any:
        """Answer for click, which asks the parent's map for a command's own map: it is this one."""
        return self if key in self._commands else super().get(key, default)

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """The inputs of every include of a template of ours.

        Raises:
            PipelineError: the file is not YAML.
        """
        if not self._path.is_file():
            return {}
        try:
            documents = list(YAML(pure=True).load_all(self._path.read_bytes()))
        except (YAMLError, ValueError) as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise PipelineError(
                f"{FILE}{line}: malformed YAML", hint="its include gives the defaults here"
            ) from None
        found: dict[str, Any] = {}
        for include in _includes(documents):
            inputs = include.get("inputs")
            found.update(inputs if isinstance(inputs, dict) else {})
        for name in found.keys() - INPUTS - NOT_BELIEVED - OF_THE_JOBS:
            log.warning("%s: the include has an input %s, which no template has", FILE, printable(str(name)))
        return {
            name: _plain(value)
            for name, value in found.items()
            if name in INPUTS and value is not None and not _unknown(value)
        }

    def __getitem__(self, key: str) -> Any:
        if key not in INPUTS:
            raise KeyError(key)
        return self.inputs[key]

    def __contains__(self, key: object) -> bool:
        # The file is not even read for a command that takes nothing from it.
        return key in INPUTS and key in self.inputs

    def __iter__(self) -> Iterator[str]:
        return iter(self.inputs)

    def __len__(self) -> int:
        return len(self.inputs)

    def __setitem__(self, key: str, value: Any) -> None:
        raise TypeError(f"{FILE} is only read")

    def __delitem__(self, key: str) -> None:
        raise TypeError(f"{FILE} is only read")


def _upwards(directory: Path) -> Path:
    """The root of the checkout that `directory` is in, else `directory` itself."""
    return next(
        (folder for folder in (directory, *directory.parents) if (folder / ".git").exists()), directory
    )


def _includes(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """The include entries that name a template of ours (docs.gitlab.com/ci/yaml, "include")."""
    for document in documents:
        includes = document.get("include") if isinstance(document, dict) else None
        for include in includes if isinstance(includes, list) else [includes]:
            if isinstance(include, dict) and any(_OURS.search(path) for path in _paths(include)):
                yield include


def _paths(include: dict[str, Any]) -> Iterator[str]:
    for key in ("local", "file", "remote", "component"):
        value = include.get(key)
        yield from (str(path) for path in (value if isinstance(value, list) else [value]) if path)


def _unknown(value: object) -> bool:
    """Whether a value needs GitLab to be known: `$CI_PROJECT_NAME`, `$[[ inputs.x ]]`."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str) and _VARIABLE.search(item) for item in items)


def _plain(value: Any) -> Any:
    """Lists as tuples and numbers as text, as the command line would give them."""
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    return value if isinstance(value, bool) else str(value)
