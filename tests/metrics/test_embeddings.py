"""Real-valued distances: streamed evaluation against all distances at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.metrics.embeddings import embedding_counts, pair_distances, pairwise_distances
from palmforge.metrics.scores import ScoreCounts

GENERATOR = torch.Generator().manual_seed(5)
FARS = (1e-1, 1e-2, 1e-3, 1e-4)


def _set(identities: int, images: int, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(identities).repeat_interleave(images)
    centres = torch.randn(identities, 24, generator=GENERATOR)
    points = centres[labels] + noise * torch.randn(len(labels), 24, generator=GENERATOR)
    shuffled = torch.randperm(len(labels), generator=GENERATOR)
    return points[shuffled], labels[shuffled]


def test_distances_are_those_of_float64_even_where_points_nearly_coincide() -> None:
    a = 100 + torch.randn(40, 64, generator=GENERATOR)
    b = a + 1e-3 * torch.randn(40, 64, generator=GENERATOR)
    exact = torch.cdist(a.double(), b.double(), compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(
        pairwise_distances(a, b, "euclidean"), exact.float(), rtol=1e-4, atol=0
    )
    cosine = 1 - torch.nn.functional.cosine_similarity(a[:, None].double(), b[None].double(), -1)
    torch.testing.assert_close(
        pairwise_distances(a, b, "cosine"), cosine.float(), rtol=1e-5, atol=1e-9
    )
    assert pairwise_distances(torch.zeros(1, 64), b, "cosine").eq(1).all()


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [10, 3000, 10**7])
def test_pairs_equal_brute_force(distance, block) -> None:
    points, labels = _set(12, 4)
    full = pairwise_distances(points, points, distance).numpy()
    same = (labels[:, None] == labels).numpy()
    upper = np.triu(np.ones_like(same), 1)
    genuine, impostor = pair_distances(points, labels, distance=distance, block=block)
    np.testing.assert_array_equal(np.sort(genuine), np.sort(full[same & upper]))
    np.testing.assert_array_equal(np.sort(impostor), np.sort(full[~same & upper]))
    cross = pair_distances(points[:20], labels[:20], points[20:], labels[20:], distance, block)
    part, part_same = full[:20, 20:], same[:20, 20:]
    np.testing.assert_array_equal(np.sort(cross[0]), np.sort(part[part_same]))
    np.testing.assert_array_equal(np.sort(cross[1]), np.sort(part[~part_same]))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("noise", [1e-4, 0.5, 1.5])
@pytest.mark.parametrize("cross", [False, True])
def test_streaming_is_exact_where_it_matters(distance, noise, cross) -> None:
    points, labels = _set(150, 4, noise)
    given = (points, labels)
    if cross:
        given = (points[:250], labels[:250], points[250:], labels[250:])
    exact = ScoreCounts.from_scores(*pair_distances(*given, distance=distance))
    streamed = embedding_counts(*given, distance=distance, fars=FARS, exact_pairs=0, block=9_000)
    assert (streamed.num_genuine, streamed.num_impostor) == (exact.num_genuine, exact.num_impostor)
    assert streamed.equal_error_rate() == exact.equal_error_rate()
    for far in FARS:
        assert streamed.tar_at_far(far) == exact.tar_at_far(far)
        assert streamed.threshold_at_far(far) == exact.threshold_at_far(far)
    assert streamed.auc() == pytest.approx(exact.auc(), abs=1e-4)
    assert streamed.decidability() == pytest.approx(exact.decidability(), rel=1e-3)


def test_streaming_bears_sets_without_genuine_pairs() -> None:
    points, labels = _set(30, 1)
    counts = embedding_counts(points, labels, exact_pairs=0, block=50)
    assert (counts.num_genuine, counts.num_impostor) == (0, 435)


def test_bad_embeddings_are_errors() -> None:
    points, labels = _set(4, 2)
    with pytest.raises(ValueError, match="distance must be"):
        pairwise_distances(points, points, "manhattan")
    with pytest.raises(ValueError, match="one D"):
        pairwise_distances(points, points[:, :3], "cosine")
    with pytest.raises(ValueError, match="8, 24\\) embeddings but 7 labels"):
        embedding_counts(points, labels[:7])
    points[3, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 8 embeddings hold NaN"):
        embedding_counts(points, labels)
