"""What generated palms are judged by: are they different, are they new, do they look right.

One template an identity, made by a recogniser. Two palms match when their distance is at or below a
threshold, that of a wanted false accept rate (FAR) on impostor pairs of real identities. So the
words of verification carry over: a generated identity is unique if it matches no other generated
identity, and novel if it matches no image of a training identity (compare DCFace, Kim et al. 2023:
uniqueness, consistency and diversity).

Each of N identities has N - 1 chances to match. Real identities that have nothing to do with each
other are therefore not all unique either (`expected_uniqueness`), and every figure here falls with
N: it says something only beside the same figure of as many real identities.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from palmforge.metrics.embeddings import FloatDistance, pairwise_distances
from palmforge.metrics.scores import ScoreCounts

BLOCK = 2_000_000  # distances held at a time: about 100 MB while they are computed
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # Bińkowski et al. 2018, as torchmetrics has them
UNIT_GAMMA = 1.0  # of KID's kernel for unit vectors: (cos + 1)³


class Nearest(NamedTuple):
    """The nearest neighbour of each row.

    Attributes:
        distance: [N] float32.
        row: [N] int64, which row it is; of equally near ones the first.
    """

    distance: Tensor
    row: Tensor


class Diversity(NamedTuple):
    """How different identities are from each other.

    Attributes:
        mean_distance: Mean cosine distance of all pairs, in 0 … 2.
        vendi: Vendi score, in 1 … min(N, D).
    """

    mean_distance: float
    vendi: float


def impostor_threshold(counts: ScoreCounts, far: float) -> float:
    """The largest impostor distance at which the FAR is still <= far; -inf if there is none.

    As `ScoreCounts.threshold_at_far`, but it needs no genuine pairs: a set of one image an identity
    has none.

    Raises:
        ValueError: Too few impostor pairs for this FAR, or far not in (0, 1].
    """
    reason = counts.far_refusal(far)
    if reason is not None:
        raise ValueError(reason)
    values = counts.values[counts.impostor > 0]
    accepted = counts.impostor[counts.impostor > 0].cumsum() / counts.num_impostor
    within = int(accepted.searchsorted(far, side="right"))
    return float(values[within - 1]) if within else float("-inf")


def nearest(
    embeddings: Tensor,
    others: Tensor | None = None,
    distance: FloatDistance = "cosine",
    identities: tuple[Tensor, Tensor] | None = None,
    block: int = BLOCK,
) -> Nearest:
    """Nearest neighbour of every row among `others`, or among the other rows of its own set.

    Args:
        embeddings: [N, D] floats.
        others: [M, D] floats, on the same device; None: `embeddings`, without the row itself.
        distance: "cosine" or "euclidean".
        identities: [N] and [M] integers: rows of `others` of the same identity do not count. A row
            that nothing is left for has a neighbour at infinity.
        block: Distances held at a time (at least one row); changes no result. Memory does not grow
            with N x M.

    Raises:
        ValueError: NaN or infinity, not [N, D] with one D, or nobody to compare with.
    """
    alone = others is None
    against = _checked(embeddings if others is None else others)
    found = _checked(embeddings)
    if len(against) < 1 + alone:
        raise ValueError(f"{len(against)} embeddings to look among: there is no neighbour")
    near = torch.empty(len(found), device=found.device)
    row = torch.empty(len(found), dtype=torch.int64, device=found.device)
    step = max(1, block // len(against))
    for start in range(0, len(found), step):
        part = pairwise_distances(found[start : start + step], against, distance)
        if alone:
            part.diagonal(start).fill_(torch.inf)
        if identities is not None:
            part[identities[0][start : start + step, None] == identities[1]] = torch.inf
        near[start : start + step], row[start : start + step] = part.min(1)
    return Nearest(near, row)


def uniqueness(embeddings: Tensor, threshold: float, distance: FloatDistance = "cosine") -> float:
    """Share of identities whose nearest other identity is farther than the threshold, in [0, 1].

    Args:
        embeddings: [N, D], one row an identity.
        threshold: Distances at or below it match; see `impostor_threshold`.
        distance: That of the threshold.

    Raises:
        ValueError: Fewer than two identities; NaN or infinity.
    """
    return _share_beyond(nearest(embeddings, None, distance), threshold)


def novelty(
    generated: Tensor, training: Tensor, threshold: float, distance: FloatDistance = "cosine"
) -> float:
    """Share of generated identities that match no image of the training set, in [0, 1].

    Args:
        generated: [N, D], one row an identity.
        training: [M, D], one row an image: an identity may have many.
        threshold: Distances at or below it match.
        distance: That of the threshold.

    Raises:
        ValueError: One of the sets is empty; NaN or infinity.
    """
    if not len(generated):
        raise ValueError("no generated embeddings")
    return _share_beyond(nearest(generated, training, distance), threshold)


def expected_uniqueness(far: float, n: int) -> float:
    """(1 - FAR)^(n - 1): uniqueness of n identities whose pairs match independently, at this FAR.

    At FAR = 0.1 % 61 % of 500 unrelated identities are unique, and 0.0006 % of 12,000. False
    matches that gather on few identities ("wolves", "lambs") put a set above it. With the n - 1
    images of a training set to compare with it is the expected novelty, which is too low where an
    identity has many images, for these match or do not match together.

    Raises:
        ValueError: far not in [0, 1], or n < 1.
    """
    if not 0.0 <= far <= 1.0 or n < 1:
        raise ValueError(f"far must lie in [0, 1] and n be 1 or more, got {far} and {n}")
    return float((1.0 - far) ** (n - 1))


def diversity(embeddings: Tensor) -> Diversity:
    """Mean cosine distance of all pairs, and the Vendi score, of identities [N, D].

    No [N, N] matrix is made where N > D.

    Raises:
        ValueError: Fewer than two identities; NaN or infinity.
    """
    unit = _unit(embeddings)
    if len(unit) < 2:
        raise ValueError(f"{len(unit)} embeddings: diversity needs two")
    pairs = len(unit) * (len(unit) - 1)
    cosines = (unit.sum(0).square().sum() - unit.square().sum()) / pairs
    return Diversity(float((1 - cosines).clamp(0, 2)), vendi_score(embeddings))


def vendi_score(embeddings: Tensor) -> float:
    """Effective number of different palms: exp of the entropy of the eigenvalues of K / N.

    Friedman & Dieng 2023, Definition 3.1, with the cosine similarity as kernel K. N equal palms
    give 1, N orthogonal ones N. It cannot exceed D, however many palms there are: compare it
    between sets of one size and one recogniser.

    Args:
        embeddings: [N, D]; directions alone count.

    Raises:
        ValueError: No embeddings; NaN or infinity; a vector of zeros, which has no direction.
    """
    unit = _unit(embeddings)
    if not len(unit):
        raise ValueError("no embeddings: there is no Vendi score")
    if not bool(unit.any(1).all()):
        raise ValueError("a vector of zeros has no direction, and so no cosine similarity")
    # X Xᵀ and Xᵀ X have the same eigenvalues but for zeros: take the smaller.
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    shares = torch.linalg.eigvalsh(gram / len(unit)).clamp(min=0)
    return float(torch.special.entr(shares / shares.sum()).sum().exp())


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """Fréchet distance of two sets of features [N, D] and [M, D] (FID, Heusel et al. 2017, Eq. 6).

    torchmetrics' own, in float64. It is biased: it falls as sets grow, and is large where they have
    fewer images than features.

    Raises:
        ValueError: Fewer than two images in a set; NaN or infinity.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    # Over processes the caller syncs; it must not be done a second time.
    features = _FeaturesAlready(_enough(real).shape[1])
    metric = FrechetInceptionDistance(features, sync_on_compute=False)
    metric.to(real.device)
    metric.update(real.double(), real=True)
    metric.update(_enough(generated).double(), real=False)
    return max(0.0, float(metric.compute()))


def kernel_distance(
    real: Tensor,
    generated: Tensor,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
    gamma: float | None = None,
) -> tuple[float, float]:
    """Kernel distance (KID, Bińkowski et al. 2018): mean and deviation over subsets.

    torchmetrics' own, in float64: the polynomial kernel of degree 3, unbiased, so that two sets of
    one distribution come out around 0, a little below as often as above. That asks for one
    image an identity: images of one palm are no independent draws.

    Args:
        real: [N, D] features.
        generated: [M, D] features.
        subsets: How many are drawn, without replacement within one.
        subset_size: At most; of small sets half the smaller one.
        seed: Of the draws. The global random state is left as it was.
        gamma: Of the kernel (gamma x·y + 1)³; None: 1 / D, right for Inception's features. That of
            unit vectors is `UNIT_GAMMA`: with 1 / D the kernel would see hardly any difference.

    Raises:
        ValueError: Fewer than two images in a set; NaN or infinity.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    smaller = min(len(_enough(real)), len(_enough(generated)))
    size = max(2, min(subset_size, smaller // 2))
    with warnings.catch_warnings():  # that it keeps all features, which were kept already
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(
            _FeaturesAlready(real.shape[1]), subsets, size, gamma=gamma, sync_on_compute=False
        )
    metric.update(real.double(), real=True)
    metric.update(generated.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


class _FeaturesAlready(nn.Identity):
    """What torchmetrics takes for a network: the features are there already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def _share_beyond(found: Nearest, threshold: float) -> float:
    return float((found.distance > threshold).double().mean())


def _unit(embeddings: Tensor) -> Tensor:
    return nn.functional.normalize(_checked(embeddings).double(), dim=1)


def _enough(features: Tensor) -> Tensor:
    if len(_checked(features)) < 2:
        raise ValueError(f"{len(features)} features: a distance of sets needs two of each")
    return features


def _checked(embeddings: Tensor) -> Tensor:
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings must be [N, D], got {tuple(embeddings.shape)}")
    finite = torch.isfinite(embeddings).all(1)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        raise ValueError(f"{bad} of {len(embeddings)} embeddings hold NaN or infinity")
    return embeddings.detach()
