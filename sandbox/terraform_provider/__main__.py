"""The provider itself, as Terraform starts it: objects are JSON files in the folder that `CLOUD_FOLDER` names.

Plugin protocol 6 is spoken by PyPI's `tf`. https://developer.hashicorp.com/terraform/plugin/terraform-plugin-protocol
"""

import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from tf import runner
from tf.schema import Attribute, Schema
from tf.types import Map, Number, String

from sandbox.terraform_provider import BEGUN, FAILING, FOLDER, HOLD, SOURCE

State = dict[str, Any]


class Server:
    """`cloud_server`: another `name` replaces it, all else is changed in place."""

    name = "server"

    def __init__(self, provider: "Provider") -> None:
        self.folder = provider.folder

    @classmethod
    def get_name(cls) -> str:
        return cls.name

    @classmethod
    def get_schema(cls) -> Any:
        return Schema(
            version=0,
            attributes=[
                Attribute("id", String(), computed=True),
                Attribute("name", String(), required=True, requires_replace=True),
                Attribute("size", Number(), optional=True),
                Attribute("secret", String(), optional=True, sensitive=True),
                Attribute("labels", Map(String()), optional=True),
            ],
        )

    def validate(self, diags: Any, type_name: str, config: State) -> None:
        """Take whatever the schema takes."""

    def plan(self, ctx: Any, current: State | None, planned: State) -> State:  # noqa: ARG002 - tf's names
        return planned

    def create(self, ctx: Any, planned: State) -> State | None:
        made = {**planned, "id": f"{self.name}-{uuid.uuid4().hex[:8]}"}
        return self._write(made) if self._lets(ctx, "create", made) else None

    def read(self, ctx: Any, current: State) -> State | None:
        path = self._path(current)
        if not self._lets(ctx, "read", current):
            return current
        found: State | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def update(self, ctx: Any, current: State, planned: State) -> State:
        return self._write(planned) if self._lets(ctx, "update", planned) else current

    def delete(self, ctx: Any, current: State) -> State | None:
        if not self._lets(ctx, "delete", current):
            return current
        self._path(current).unlink(missing_ok=True)
        return None

    def import_(self, ctx: Any, id: str) -> State | None:  # noqa: A002 - tf's name
        return self.read(ctx, {"id": id, "name": ""})

    def _path(self, state: State) -> Path:
        return self.folder / f"{state['id']}.json"

    def _write(self, state: State) -> State:
        self._path(state).write_text(json.dumps(state))
        return state

    def _lets(self, ctx: Any, action: str, state: State) -> bool:
        """Wait while the folder says so, and tell whether the call may be done."""
        if action != "read" and (self.folder / HOLD).exists():
            (self.folder / f"{BEGUN}{action}-{state['name']}").touch()
            while (self.folder / HOLD).exists():
                time.sleep(0.02)
        if (self.folder / f"{FAILING}{action}").exists():
            ctx.diagnostics.add_error(f"the cloud refuses to {action} {state['name']}", "quota exceeded")
            return False
        return True


class Network(Server):
    """`cloud_network`, with the same attributes."""

    name = "network"


class Provider:
    """What `tf` asks of a provider."""

    def __init__(self) -> None:
        self.folder = Path(os.environ[FOLDER])

    def get_model_prefix(self) -> str:
        return "cloud_"

    def get_provider_schema(self, diags: Any) -> Any:  # noqa: ARG002 - tf's name
        return Schema(attributes=[])

    def full_name(self) -> str:
        return SOURCE

    def validate_config(self, diags: Any, config: State) -> None:
        """Take a provider block without attributes."""

    def configure_provider(self, diags: Any, config: State) -> None:
        """Take a provider block without attributes."""

    def get_data_sources(self) -> list[Any]:
        return []

    def get_resources(self) -> list[type[Server]]:
        return [Server, Network]

    def get_functions(self) -> list[Any]:
        return []

    def new_resource(self, kind: type[Server]) -> Server:
        return kind(self)


class _Shutdown:
    """Ends the server when Terraform is done with it.

    `tf`'s own ends it on StopProvider too, which Terraform sends at the first interrupt: a real provider then
    finishes the call under way.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.server: Any = None

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        answer = continuation(details)
        self.stopped = self.stopped or details.method == "/plugin.GRPCController/Shutdown"
        return answer


def main() -> None:
    # As go-plugin does: an interrupt of the whole process group is Terraform's to handle.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner._ShutdownInterceptor = _Shutdown  # noqa: SLF001 - see there
    runner.run_provider(Provider(), sys.argv)


if __name__ == "__main__":
    main()
