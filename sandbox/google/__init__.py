"""Google as far as a job that pushes images meets it: tokens, and a registry that takes them."""

from sandbox.google.artifact_registry import ArtifactRegistry
from sandbox.google.server import Google, Pool
from sandbox.google.tokens import Tokens

__all__ = ["ArtifactRegistry", "Google", "Pool", "Tokens"]
