"""Five thousand kustomizations more, without an entry of the image: a file of its own, for another worker."""

from hypothesis import HealthCheck, given, settings

from pipeline_tools.text.kustomization import images, set_image
from tests.text.kustomizations import Case, cases


@settings(max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
@given(cases(is_new=True))
def test_a_new_entry_comes_last_and_every_byte_stays(case: Case) -> None:
    assert set_image(case.text, case.image, "k") == case.expected


@settings(max_examples=100)
@given(cases(is_new=True))
def test_twice_is_once(case: Case) -> None:
    once = set_image(case.text, case.image, "k")
    assert set_image(once, case.image, "k") == once
    assert images(once, "k")[-1].name == case.image.name
