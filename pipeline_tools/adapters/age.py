"""Files that only the holder of an age identity can read (age-encryption.org/v1), through pyrage."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyrage

from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.text.masks import Secret


def recipient(identity: Secret) -> str:
    """The public recipient (`age1…`) of an identity (`AGE-SECRET-KEY-1…`)."""
    return str(_identity(identity).to_public())


def encrypt(source: Path, target: Path, to: str) -> None:
    """Write `source` encrypted into `target`: whole or not at all, never in memory at once.

    Raises:
        PipelineError: `to` is no recipient, or the file cannot be written.
    """
    try:
        key = pyrage.x25519.Recipient.from_str(to)
    except pyrage.RecipientError:
        raise PipelineError(
            "the plan's recipient is no age recipient", hint="age-keygen prints one; it begins with age1"
        ) from None
    beside = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as reader, beside.open("wb") as file:
            writer = _Writer(file)
            pyrage.encrypt_io(reader, writer, [key])
            writer.check()
        beside.replace(target)
    except OSError as error:
        raise PipelineError(f"{target} cannot be written: {_reason(error)}", hint="see --plans") from None
    finally:
        beside.unlink(missing_ok=True)


@dataclass
class _Writer:
    """A file that remembers that it could not be written: pyrage overlooks it in the last bytes, as in encrypt_file."""

    file: BinaryIO
    failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()

    def check(self) -> None:
        if self.failure:
            raise self.failure


def decrypt(source: Path, target: Path, identity: Secret) -> None:
    """Write what `source` holds in clear into `target`, readable for us only.

    Raises:
        Refused: it is for another identity, or not as it was encrypted.
        PipelineError: it cannot be read.
    """
    try:
        target.touch(0o600)
        with source.open("rb") as reader, target.open("wb") as writer:
            pyrage.decrypt_io(reader, writer, [_identity(identity)])
    except (pyrage.DecryptError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PipelineError(
                f"{source} cannot be decrypted: {_reason(error)}", hint="see --plans"
            ) from None
        # pyrage says a changed body as an OSError without a number.
        raise Refused(
            f"{source} cannot be decrypted: {error}",
            hint="was it encrypted to this identity's recipient, and left as it was?",
        ) from None


def _identity(identity: Secret) -> pyrage.x25519.Identity:
    text = identity.reveal()
    key = next((line.strip() for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-")), "")
    try:
        return pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise PipelineError(
            "PT_PLAN_IDENTITY is no age identity", hint="age-keygen makes one: AGE-SECRET-KEY-1…"
        ) from None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
