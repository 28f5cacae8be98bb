"""What builders say of registries, in our exit codes."""

from __future__ import annotations

import pytest

from pipeline_tools.errors import Denied, PipelineError, Unavailable
from pipeline_tools.text import build_errors


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("pull access denied for acme/private, repository does not exist", Denied),
        ("unauthorized: authentication required", Denied),
        ("received unexpected HTTP status: 403 Forbidden", Denied),
        ("invalid status code from registry 403 (Forbidden)", Denied),
        ("unexpected status code 401", Denied),
        ("manifest for r.example.com/app:403 not found: manifest unknown", PipelineError),
        ("reading manifest 1.401 in r.example.com/app: manifest unknown", PipelineError),
        ("manifest for r.example.com/app:1.503 not found: manifest unknown", PipelineError),
        ("received unexpected HTTP status: 502 Bad Gateway", Unavailable),
        ("500 Internal Server Error", Unavailable),
        ("dial tcp 192.0.2.7:443: i/o timeout", Unavailable),
    ],
)
def test_what_a_pull_that_fails_means(said: str, kind: type[PipelineError]) -> None:
    assert type(build_errors.said("build of made:0", said, "")) is kind
