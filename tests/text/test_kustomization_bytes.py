"""Five thousand kustomizations: an edit of an entry makes of each exactly the text that it must become."""

from hypothesis import HealthCheck, given, settings

from pipeline_tools.text.kustomization import set_image
from tests.text.kustomizations import Case, cases


@settings(max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
@given(cases(is_new=False))
def test_every_other_byte_stays(case: Case) -> None:
    assert set_image(case.text, case.image, "k") == case.expected
