"""Plans at rest: only the identity reads them, and a changed byte is found."""

from pathlib import Path

import pyrage
import pytest

from pipeline_tools.adapters import age
from pipeline_tools.errors import PipelineError, Refused
from pipeline_tools.text.masks import Secret

CONTENT = b"a plan with a secret in it" * 10_000


@pytest.fixture
def identity() -> Secret:
    return Secret(f"# created by age-keygen\n{pyrage.x25519.Identity.generate()}\n")


@pytest.fixture
def sealed(tmp_path: Path, identity: Secret) -> Path:
    (tmp_path / "plan").write_bytes(CONTENT)
    age.encrypt(tmp_path / "plan", tmp_path / "deep" / "plan.age", age.recipient(identity))
    return tmp_path / "deep" / "plan.age"


def test_only_the_identity_reads_it(sealed: Path, identity: Secret, tmp_path: Path) -> None:
    assert b"secret" not in sealed.read_bytes()
    age.decrypt(sealed, tmp_path / "back", identity)
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert (tmp_path / "back").stat().st_mode & 0o077 == 0
    other = Secret(str(pyrage.x25519.Identity.generate()))
    with pytest.raises(Refused, match="No matching keys"):
        age.decrypt(sealed, tmp_path / "back", other)


@pytest.mark.parametrize("place", [0, 30, 200, -1, -100_000])
def test_a_changed_byte_is_found(sealed: Path, identity: Secret, tmp_path: Path, place: int) -> None:
    content = bytearray(sealed.read_bytes())
    content[place] ^= 1
    sealed.write_bytes(content)
    with pytest.raises(Refused, match="cannot be decrypted"):
        age.decrypt(sealed, tmp_path / "back", identity)


@pytest.mark.parametrize("size", [0, 10, 100, 100_000])
def test_a_cut_file_is_found(sealed: Path, identity: Secret, tmp_path: Path, size: int) -> None:
    sealed.write_bytes(sealed.read_bytes()[:size])
    with pytest.raises(Refused, match="cannot be decrypted"):
        age.decrypt(sealed, tmp_path / "back", identity)


def test_a_full_disk_leaves_nothing(sealed: Path, identity: Secret, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".plan.age.part").symlink_to("/dev/full")
    with pytest.raises(PipelineError, match=r"cannot be written: No space left"):
        age.encrypt(tmp_path / "plan", tmp_path / "full" / "plan.age", age.recipient(identity))
    assert list((tmp_path / "full").iterdir()) == []


def test_what_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no age recipient"):
        age.encrypt(tmp_path / "plan", tmp_path / "plan.age", "age1nonsense")
    with pytest.raises(PipelineError, match="no age identity"):
        age.recipient(Secret("hello"))
    with pytest.raises(PipelineError, match="No such file"):
        age.decrypt(tmp_path / "nope", tmp_path / "back", Secret(str(pyrage.x25519.Identity.generate())))
