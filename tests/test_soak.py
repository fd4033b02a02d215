"""The soak itself takes too long for this suite; that its bugs can still be planted does not."""

import pytest

from tests.soak.planted import PLANTS, ROOT, Plant


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.told)
def test_each_bug_fits_the_source_once(plant: Plant) -> None:
    assert 1 == (ROOT / plant.path).read_text("utf-8").count(plant.old)
