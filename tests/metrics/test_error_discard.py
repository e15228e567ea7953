from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.metrics.embeddings import pairwise_distances
from palmforge.metrics.error_discard import error_versus_discard


def cosine(a, b):
    return pairwise_distances(a, b, "cosine")


def angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees) * torch.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1)


# Two palms; the last picture of each shows nothing, and lies nearer to the other palm.
TEMPLATES = angles(0, 5, 80, 90, 95, 10)
LABELS = np.array([0, 0, 0, 1, 1, 1])
QUALITY = torch.tensor([3.0, 3.0, 0.2, 3.0, 2.0, 0.1])


def test_what_shows_nothing_is_refused_first_and_the_rest_makes_no_error():
    rows = error_versus_discard(TEMPLATES, LABELS, QUALITY, cosine, (0.0, 0.34), far=0.25)
    assert [row["num_images"] for row in rows] == [6, 4]
    assert [row["min_quality"] for row in rows] == pytest.approx([0.1, 2.0])
    # Genuine pairs are 5, 80, 75, 5, 80, 85 degrees apart, impostor pairs 90, 95, 10, 85, 90, 5,
    # 10, 15, 70. Of these nine FAR 0.25 accepts two at most: those up to 5 degrees, which is one.
    assert rows[0]["tar@far=2.5e-1"] == pytest.approx(2 / 6)
    assert rows[0]["eer"] > 0.4
    assert rows[1]["eer"] == 0 and rows[1]["tar@far=2.5e-1"] == 1
    # Of the six genuine pairs two are left: a refusal is a rejection.
    assert rows[1]["generalized_tar@far=2.5e-1"] == pytest.approx(2 / 6)
    assert rows[0]["generalized_tar@far=2.5e-1"] == pytest.approx(2 / 6)


def test_a_quality_that_knows_nothing_leaves_the_errors_as_they_are():
    random = torch.Generator().manual_seed(0)
    people = torch.randn(60, 16, generator=random).repeat_interleave(6, 0)
    templates = people + 1.4 * torch.randn(360, 16, generator=random)
    quality = torch.rand(360, generator=random)
    labels = np.repeat(np.arange(60), 6)
    rows = error_versus_discard(templates, labels, quality, cosine, (0.0, 0.3), 1e-2)
    assert rows[0]["eer"] > 0.05
    assert rows[1]["eer"] == pytest.approx(rows[0]["eer"], abs=0.02)


def test_without_impostors_there_is_no_rate():
    rows = error_versus_discard(TEMPLATES[:3], LABELS[:3], QUALITY[:3], cosine, (0.0,))
    assert np.isnan(rows[0]["eer"]) and "tar@far=1e-3" not in rows[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": LABELS[:4]}, "6 templates, 4 labels, 6 values"),
        ({"shares": (1.0,)}, "shares must lie in"),
        ({"quality": torch.full((6,), torch.nan)}, "a quality is NaN"),
    ],
)
def test_bad_input_is_named(change, told):
    given = {"templates": TEMPLATES, "labels": LABELS, "quality": QUALITY, "distance": cosine}
    with pytest.raises(ValueError, match=told):
        error_versus_discard(**(given | change))
