"""Uniqueness, novelty, diversity, FID and KID: against loops, known cases, and two processes."""

from __future__ import annotations

import math
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from palmforge.metrics.embeddings import embedding_counts
from palmforge.metrics.generation import (
    diversity,
    expected_uniqueness,
    frechet_distance,
    impostor_threshold,
    kernel_distance,
    nearest,
    novelty,
    uniqueness,
    vendi_score,
)
from palmforge.metrics.generation_metric import (
    GenerationMetrics,
    ImageDistances,
    RecognizerFeatures,
)
from palmforge.metrics.scores import ScoreCounts


def _vectors(rows: int, columns: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return 1.0 - float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_toy_embeddings_by_hand() -> None:
    # At 0°, 60° and 180°: distances 0.5, 2 and 1.5.
    palms = torch.tensor([[1.0, 0.0], [0.5, 3**0.5 / 2], [-2.0, 0.0]])
    assert uniqueness(palms, 0.6) == pytest.approx(1 / 3)  # only the third: 1.5 from the second
    assert uniqueness(palms, 0.4) == 1.0
    assert novelty(palms, torch.tensor([[0.0, 5.0], [0.5, 4.0]]), 0.5) == pytest.approx(2 / 3)
    assert diversity(palms).mean_distance == pytest.approx((0.5 + 2 + 1.5) / 3)


def test_a_distance_at_the_threshold_is_a_match() -> None:
    palms = torch.eye(4)
    assert uniqueness(palms, 1.0) == 0.0
    assert uniqueness(palms, 0.999) == 1.0


def test_figures_are_those_of_plain_loops() -> None:
    palms, training = _vectors(23), _vectors(31, seed=1)
    a, b = palms.double().numpy(), training.double().numpy()
    own = [min(_cosine(a[i], a[j]) for j in range(23) if j != i) for i in range(23)]
    new = [min(_cosine(x, y) for y in b) for x in a]
    threshold = 0.45
    assert uniqueness(palms, threshold) == np.mean(np.array(own) > threshold)
    assert novelty(palms, training, threshold) == np.mean(np.array(new) > threshold)
    assert 0 < uniqueness(palms, threshold) < 1 and 0 < novelty(palms, training, threshold) < 1
    pairs = [_cosine(a[i], a[j]) for i in range(23) for j in range(i)]
    assert diversity(palms).mean_distance == pytest.approx(np.mean(pairs), abs=1e-9)
    kernel = np.array([[1 - _cosine(x, y) for x in a] for y in a])
    shares = np.linalg.eigvalsh(kernel / 23)
    shares = shares[shares > 1e-12]
    expected = np.exp(-np.sum(shares * np.log(shares)))
    assert vendi_score(palms) == pytest.approx(expected, rel=1e-6)  # 23 > 16: of [D, D]
    assert vendi_score(palms[:9]) < 9.0


@pytest.mark.parametrize("block", [1, 7, 40, 10_000])
def test_blocks_change_nothing(block) -> None:
    palms, training = _vectors(23), _vectors(31, seed=1)
    for others in (None, training):
        found, whole = nearest(palms, others, block=block), nearest(palms, others)
        assert torch.equal(found.distance, whole.distance) and torch.equal(found.row, whole.row)


def test_pictures_of_the_same_identity_do_not_count() -> None:
    images = _vectors(12)
    labels = torch.arange(12) // 3
    found = nearest(images, images, identities=(labels, labels), block=20)
    assert not bool((labels[found.row] == labels).any())
    assert bool((found.distance > nearest(images).distance - 1e-6).all())


def test_equal_palms_are_one_and_orthogonal_ones_are_all_different() -> None:
    equal = torch.ones(9, 4)
    assert uniqueness(equal, 0.1) == 0.0
    assert diversity(equal).mean_distance == pytest.approx(0.0, abs=1e-9)
    assert vendi_score(equal) == pytest.approx(1.0)
    assert uniqueness(torch.eye(6), 0.5) == 1.0
    assert diversity(torch.eye(6)) == pytest.approx((1.0, 6.0))
    assert vendi_score(torch.eye(6, 11)) == pytest.approx(6.0)
    assert vendi_score(torch.eye(6).repeat(50, 1)) == pytest.approx(6.0)


def test_unrelated_palms_are_as_unique_as_expected() -> None:
    palms = _vectors(2000, 64)
    counts = embedding_counts(palms, np.arange(2000), distance="cosine")
    threshold = impostor_threshold(counts, 1e-3)
    assert counts.impostor[counts.values <= threshold].sum() / counts.num_impostor <= 1e-3
    assert uniqueness(palms, threshold) == pytest.approx(expected_uniqueness(1e-3, 2000), abs=0.05)
    assert expected_uniqueness(1e-3, 500) == pytest.approx(0.607, abs=1e-3)
    assert expected_uniqueness(0.5, 1) == 1.0


def test_threshold_is_that_of_verification_and_needs_no_genuine_pairs() -> None:
    rng = np.random.default_rng(0)
    impostor = rng.integers(0, 60, 500) / 60
    with_genuine = ScoreCounts.from_scores(rng.random(50), impostor)
    alone = ScoreCounts.from_scores([], impostor)
    for far in (0.5, 0.1, 0.02):
        assert impostor_threshold(alone, far) == impostor_threshold(with_genuine, far)
        # Its own may stand a little higher, at a genuine distance: it accepts the same impostors.
        assert with_genuine.rates_at(impostor_threshold(alone, far))[0] == pytest.approx(
            with_genuine.rates_at(with_genuine.threshold_at_far(far))[0]
        )
    assert impostor_threshold(ScoreCounts.from_scores([], [0.2] * 10), 0.5) == -math.inf
    with pytest.raises(ValueError, match="needs at least 1,000 impostor pairs, there are 500"):
        impostor_threshold(alone, 1e-3)


def test_frechet_distance_of_a_set_with_itself_is_0_and_of_a_shift_its_square() -> None:
    features = _vectors(300, 8)
    assert frechet_distance(features, features) == pytest.approx(0.0, abs=1e-6)
    shift = torch.tensor([3.0, 4.0, 0, 0, 0, 0, 0, 0])
    assert frechet_distance(features, features + shift) == pytest.approx(25.0, rel=1e-5)


def test_kernel_distance_tells_sets_apart_repeats_and_leaves_the_random_state() -> None:
    features, same, other = _vectors(80, 8), _vectors(90, 8, 1), _vectors(90, 8, 2) + 1
    before = torch.random.get_rng_state()
    near, far = kernel_distance(features, same), kernel_distance(features, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert abs(near[0]) < 0.1 * far[0] and far[1] > 0
    assert kernel_distance(features, other) == far
    assert kernel_distance(features, other, seed=1) != far
    assert math.isfinite(kernel_distance(features[:2], same[:3])[0])  # two are enough


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_torchmetrics_takes_the_adapter_with_bytes_and_with_floats() -> None:
    def embed(images: torch.Tensor) -> torch.Tensor:
        floats = images / 255 if images.dtype == torch.uint8 else images
        return floats.double().mean((2, 3))

    features = RecognizerFeatures(embed, 3)
    images = (torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255).byte()
    assert features(images).dtype == torch.float32
    torch.testing.assert_close(features(images), features(images / 255))
    for metric in (FrechetInceptionDistance(features), KernelInceptionDistance(features, 3, 6)):
        metric.update(images, real=True)
        metric.update(images.flip(1), real=False)
        assert torch.isfinite(torch.as_tensor(metric.compute())).all()
    with pytest.raises(ValueError, match=r"features \(12, 5\) expected"):
        RecognizerFeatures(embed, 5)(images)


def _filled(palms, index, training=None, batch=5) -> GenerationMetrics:
    metric = GenerationMetrics(0.45, training)
    for rows, numbers in zip(palms.split(batch), index.split(batch), strict=True):
        metric.update(rows, numbers)
    return metric


def test_the_metric_gives_the_figures_of_the_functions() -> None:
    palms, training = _vectors(23), _vectors(31, seed=1)
    figures = _filled(palms, torch.arange(23), training).compute()
    assert figures["uniqueness"] == uniqueness(palms, 0.45)
    assert figures["novelty"] == novelty(palms, training, 0.45)
    assert (figures["diversity"], figures["vendi"]) == diversity(palms)
    assert figures["recognizer_fid"] == frechet_distance(training, palms)
    assert figures["num_identities"] == 23
    assert all(isinstance(value, float) for value in figures.values())
    assert "novelty" not in _filled(palms, torch.arange(23)).compute()


def test_repeats_and_the_order_of_batches_change_nothing() -> None:
    palms, training = _vectors(23), _vectors(31, seed=1)
    expected = _filled(palms, torch.arange(23), training).compute()
    order = torch.randperm(23, generator=torch.Generator().manual_seed(3))
    padded = torch.cat([order, order[:6]])
    assert _filled(palms[padded], padded, training, 4).compute() == expected


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_few_identities_are_nan_and_no_crash() -> None:
    palms = _vectors(3)
    for metric in (GenerationMetrics(0.4, palms), _filled(palms[:1], torch.zeros(1).long(), palms)):
        figures = metric.compute()
        assert figures.pop("num_identities") < 2
        assert len(figures) == 6 and all(math.isnan(value) for value in figures.values())
    empty = ImageDistances(torch.nn.Flatten()).compute()
    assert empty.keys() == {"fid", "kid", "kid_std"} and math.isnan(empty["fid"])


def test_weights_of_the_feature_extractor_stay_out_of_the_checkpoint() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    images = torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    metric = ImageDistances(network)
    assert not metric.state_dict() and not list(metric.parameters())
    for numbers in (torch.arange(8), torch.arange(4)):  # the second time: repeats
        for real in (True, False):
            metric.update(images[numbers], numbers, real)
    assert metric.compute()["fid"] == pytest.approx(0.0, abs=1e-6)


def test_bad_input_is_an_error() -> None:
    palms = _vectors(5)
    broken = palms.clone()
    broken[2, 1] = float("nan")
    with pytest.raises(ValueError, match="1 of 5 embeddings hold NaN"):
        uniqueness(broken, 0.4)
    with pytest.raises(ValueError, match=r"must be \[N, D\]"):
        diversity(palms[0])
    with pytest.raises(ValueError, match="no neighbour"):
        uniqueness(palms[:1], 0.4)
    with pytest.raises(ValueError, match="no neighbour"):
        novelty(palms, palms[:0], 0.4)
    with pytest.raises(ValueError, match="no generated"):
        novelty(palms[:0], palms, 0.4)
    with pytest.raises(ValueError, match="no direction"):
        vendi_score(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="needs two of each"):
        frechet_distance(palms, palms[:1])
    with pytest.raises(ValueError, match="far must lie"):
        expected_uniqueness(1.5, 3)
    with pytest.raises(ValueError, match=r"NaN or infinity at index \[2\]"):
        GenerationMetrics(0.4).update(broken, torch.arange(5))
    with pytest.raises(ValueError, match="expected rows"):
        GenerationMetrics(0.4).update(palms, torch.arange(4))


def _work(rank: int, port: int, results, shards) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    palms, training = _vectors(23), _vectors(31, seed=1)
    found = {}
    for name, shard in shards.items():
        rows = shard[rank]
        metric = _filled(palms[rows], rows, training) if len(rows) else GenerationMetrics(
            0.45, training
        )  # fmt: skip
        images = ImageDistances(torch.nn.Identity())
        if len(rows):
            images.update(palms[rows], rows, real=False)
            images.update(training[rows], rows, real=True)
        found[name] = metric.compute(), images.compute()
    results[rank] = found
    dist.destroy_process_group()


def test_two_processes_give_the_figures_of_one() -> None:
    every = torch.arange(23)
    shards = {
        "padded": (every[::2], torch.cat([every[1::2], every[:1]])),
        "one idle": (every, every[:0]),
    }
    alone = ImageDistances(torch.nn.Identity())
    palms, training = _vectors(23), _vectors(31, seed=1)
    alone.update(palms, every, real=False)
    alone.update(training[:23], every, real=True)
    expected = _filled(palms, every, training).compute(), alone.compute()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.start_processes(_work, (port, results, shards), 2, start_method="fork")
        found = dict(results)
    assert found[0] == found[1] == dict.fromkeys(shards, expected)
