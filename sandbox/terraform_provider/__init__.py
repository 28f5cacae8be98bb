"""A small real Terraform provider and the cloud behind it, which tests change, slow down and break.

Terraform finds it in a file system mirror that its CLI configuration names
(https://developer.hashicorp.com/terraform/cli/config/config-file#provider-installation).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SOURCE = "example.test/pipeline-tools/cloud"
VERSIONS = ("1.0.0", "1.1.0")
PLATFORMS = ("darwin_arm64", "linux_amd64", "linux_arm64")
FOLDER, PYTHON = "CLOUD_FOLDER", "CLOUD_PYTHON"
HOLD, BEGUN, FAILING = "hold", "begun-", "failing-"

# The same bytes on every machine, so that a lock file with its hash can be kept; another hash on each platform.
PROGRAM = """\
#!/bin/sh
# {platform} {version}
exec "$CLOUD_PYTHON" -m sandbox.terraform_provider "$@"
"""


@dataclass(frozen=True)
class Cloud:
    """The objects in `folder`, and in `mirror` the provider that makes them."""

    folder: Path
    mirror: Path

    @classmethod
    def make(cls, directory: Path) -> Cloud:
        """Lay out an empty cloud, the mirror and the CLI configuration in a new folder."""
        cloud = cls(directory / "objects", directory / "mirror")
        cloud.folder.mkdir(parents=True)
        for version in VERSIONS:
            for platform in PLATFORMS:
                _install(cloud.mirror / SOURCE / version / platform, version, platform)
        installation = f'filesystem_mirror {{\n    path = "{cloud.mirror}"\n  }}'
        cloud._configuration.write_text(f"provider_installation {{\n  {installation}\n}}\n")
        return cloud

    @property
    def _configuration(self) -> Path:
        return self.mirror.parent / "terraform.rc"

    @property
    def variables(self) -> Mapping[str, str]:
        """What Terraform and the provider need from the environment."""
        return {
            "TF_CLI_CONFIG_FILE": str(self._configuration),
            FOLDER: str(self.folder),
            PYTHON: sys.executable,
        }

    # What is there, and what somebody else does to it -------------------------------------------------------

    @property
    def objects(self) -> dict[str, dict[str, Any]]:
        """The objects by id."""
        rows = (json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json")))
        return {row["id"]: row for row in rows}

    def named(self, name: str) -> dict[str, Any]:
        """The object of this name; KeyError when there is not exactly one."""
        found = [row for row in self.objects.values() if row["name"] == name]
        if len(found) != 1:
            raise KeyError(name)
        return found[0]

    def change(self, name: str, **attributes: object) -> None:
        """Change an object behind Terraform's back."""
        row = self.named(name)
        (self.folder / f"{row['id']}.json").write_text(json.dumps({**row, **attributes}))

    def remove(self, name: str) -> None:
        """Delete an object behind Terraform's back."""
        (self.folder / f"{self.named(name)['id']}.json").unlink()

    # How it behaves ----------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Let every creation, change and deletion wait from now on, until `release`."""
        (self.folder / HOLD).touch()

    def release(self) -> None:
        (self.folder / HOLD).unlink()

    @property
    def begun(self) -> set[str]:
        """The calls that have waited or still wait: `create-NAME`, `update-NAME`, `delete-NAME`."""
        return {path.name.removeprefix(BEGUN) for path in self.folder.glob(f"{BEGUN}*")}

    def fail(self, action: str) -> None:
        """Refuse every create, read, update or delete from now on, until `heal`."""
        (self.folder / f"{FAILING}{action}").touch()

    def heal(self, action: str) -> None:
        (self.folder / f"{FAILING}{action}").unlink()


def _install(directory: Path, version: str, platform: str) -> None:
    """Put the program where the unpacked layout has it (docs: "Implied Local Mirror Directories")."""
    directory.mkdir(parents=True)
    program = directory / f"terraform-provider-cloud_v{version}"
    program.write_text(PROGRAM.format(platform=platform, version=version))
    program.chmod(0o755)
