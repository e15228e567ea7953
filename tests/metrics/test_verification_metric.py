"""The metric object: same figures as the functions, in one process and in two."""

from __future__ import annotations

import math
import socket

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from palmforge.metrics.embeddings import pair_distances
from palmforge.metrics.hamming import hamming_distances, pack_codes
from palmforge.metrics.identification import rank1_accuracy
from palmforge.metrics.verification import decidability, equal_error_rate, tar_at_far
from palmforge.metrics.verification_metric import VerificationMetrics

DISTANCES = ("hamming", "euclidean", "cosine")


def _data(identities: int = 12, images: int = 5, bits: int = 32, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(identities).repeat_interleave(images)
    codes = torch.randn(identities, bits, generator=generator)[labels]
    codes = torch.tanh(codes + 0.9 * torch.randn(codes.shape, generator=generator))
    order = torch.randperm(len(labels), generator=generator)
    return codes[order], labels[order], torch.arange(len(labels))


def _filled(data, distance="hamming", batch=7, **arguments) -> VerificationMetrics:
    metric = VerificationMetrics(distance, **arguments)
    for parts in zip(*(t.split(batch) for t in data), strict=True):
        metric.update(*parts)
    return metric


def _same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(
        a[k] == b[k] or (math.isnan(a[k]) and math.isnan(b[k])) for k in a
    )


@pytest.mark.parametrize("distance", DISTANCES)
def test_figures_are_those_of_the_functions(distance) -> None:
    codes, labels, index = _data()
    figures = _filled((codes, labels, index), distance, fars=(1e-1, 1e-2, 1e-4)).compute()
    if distance == "hamming":
        full = hamming_distances(pack_codes(codes), pack_codes(codes))
        i, j = np.triu_indices(len(labels), 1)
        same = (labels[i] == labels[j]).numpy()
        genuine, impostor = full[i, j][same], full[i, j][~same]
        alone = full.astype(float)
        np.fill_diagonal(alone, 1e9)
        assert figures["rank1"] == rank1_accuracy(alone, labels, labels)
    else:
        genuine, impostor = pair_distances(codes, labels, distance=distance)
    assert (figures["eer"], figures["eer_threshold"]) == equal_error_rate(genuine, impostor)
    assert figures["tar@far=1e-2"] == tar_at_far(genuine, impostor, 1e-2)
    assert figures["dprime"] == decidability(genuine, impostor)
    assert (figures["num_genuine"], figures["num_impostor"]) == (120, 1650)
    assert all(isinstance(value, float) for value in figures.values())


def test_fars_without_enough_impostors_are_refused_with_the_reason() -> None:
    metric = _filled(_data(), fars=(1e-2, 1e-4, 2.5e-3))
    figures = metric.compute()
    assert [key for key in figures if key.startswith("tar")] == ["tar@far=1e-2", "tar@far=2.5e-3"]
    assert metric.refused.keys() == {"tar@far=1e-4"}
    assert "needs at least 10,000 impostor pairs" in metric.refused["tar@far=1e-4"]


@pytest.mark.parametrize("distance", DISTANCES)
def test_repeated_indices_and_the_order_of_batches_change_nothing(distance) -> None:
    codes, labels, index = _data()
    expected = _filled((codes, labels, index), distance, bootstrap=20).compute()
    padded = torch.cat([torch.arange(60), torch.arange(9)])
    assert _same(
        _filled([t[padded] for t in (codes, labels, index)], distance, bootstrap=20).compute(),
        expected,
    )
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    again = _filled([t[order] for t in (codes, labels, index)], distance, 13, bootstrap=20)
    assert _same(again.compute(), expected)


def test_codes_are_kept_in_an_eighth_of_a_byte_a_bit() -> None:
    metric = _filled(_data(bits=128), batch=60)
    assert metric.codes[0].dtype == torch.uint8
    assert metric.codes[0].numel() == 60 * 16


@pytest.mark.parametrize("distance", DISTANCES)
def test_gallery_and_probes_are_compared_with_each_other_only(distance) -> None:
    codes, labels, index = _data()
    role = 1 + (index >= 20).long()
    metric = _filled((codes, labels, index, role), distance, fars=(1e-1,), bootstrap=30)
    figures = metric.compute()
    if distance == "hamming":
        full = hamming_distances(pack_codes(codes[20:]), pack_codes(codes[:20]))
        same = (labels[20:, None] == labels[:20]).numpy()
        genuine, impostor = full[same], full[~same]
        assert figures["rank1"] == rank1_accuracy(full, labels[20:], labels[:20])
    else:
        given = (codes[20:], labels[20:], codes[:20], labels[:20])
        genuine, impostor = pair_distances(*given, distance=distance)
    assert figures["num_genuine"] + figures["num_impostor"] == 20 * 40
    assert (figures["eer"], figures["eer_threshold"]) == equal_error_rate(genuine, impostor)
    assert figures["eer_low"] <= figures["eer"] <= figures["eer_high"]
    # Items of role 0 add the pairs among themselves, and none with the others.
    both = [torch.cat([t, t]) for t in (codes, labels)]
    roles = torch.cat([role, torch.zeros_like(role)])
    more = _filled((*both, torch.arange(120), roles), distance).compute()
    assert more["num_genuine"] == figures["num_genuine"] + 120
    assert more["num_impostor"] == figures["num_impostor"] + 1650


def test_intervals_surround_the_estimates_and_repeat() -> None:
    data = _data(30, 4, 32, seed=3)
    figures = _filled(data, fars=(1e-2,), bootstrap=200, seed=1).compute()
    for key in ("eer", "tar@far=1e-2"):
        assert figures[f"{key}_low"] <= figures[key] <= figures[f"{key}_high"]
        assert figures[f"{key}_low"] < figures[f"{key}_high"]
    assert _same(_filled(data, fars=(1e-2,), bootstrap=200, seed=1).compute(), figures)
    euclidean = _filled(data, "euclidean", fars=(1e-2,), bootstrap=100).compute()
    assert euclidean["eer_low"] < euclidean["eer"] < euclidean["eer_high"]


@pytest.mark.parametrize("distance", DISTANCES)
def test_too_few_samples_give_nan_and_no_crash(distance) -> None:
    codes, labels, index = _data()
    singles = torch.stack([(labels == k).nonzero()[0, 0] for k in range(12)])
    one = (labels == 0).nonzero().flatten()
    for rows, reason in ((singles, "no genuine"), (one, "no impostor"), (one[:1], "no genuine")):
        metric = _filled([t[rows] for t in (codes, labels, index)], distance, bootstrap=10)
        figures = metric.compute()
        for key in ("eer", "eer_threshold", "dprime", "auc", "eer_low", "eer_high"):
            assert math.isnan(figures[key]), key
        assert not [key for key in figures if key.startswith("tar")]
        assert all(reason in text for text in metric.refused.values()) and len(metric.refused) == 5
    only_gallery = _filled((codes, labels, index, torch.ones_like(index)), distance).compute()
    assert only_gallery["num_genuine"] == 0 and math.isnan(only_gallery["rank1"])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_samples_at_all() -> None:
    figures = VerificationMetrics(bootstrap=5).compute()
    assert math.isnan(figures["eer"]) and figures["num_impostor"] == 0


def test_score_counts_and_reset() -> None:
    metric = _filled(_data())
    counts = metric.score_counts()
    assert counts.equal_error_rate()[0] == metric.compute()["eer"]
    assert all(isinstance(value, int) for value in counts.to_dict()["values"])
    metric.reset()
    metric.update(*(t[:10] for t in _data()))
    assert metric.score_counts().num_genuine < counts.num_genuine


def test_bad_input_is_an_error() -> None:
    codes, labels, index = _data()
    metric = VerificationMetrics()
    with pytest.raises(ValueError, match="expected codes"):
        metric.update(codes, labels[:3], index)
    with pytest.raises(ValueError, match="role must be"):
        metric.update(codes, labels, index, index)
    with pytest.raises(ValueError, match="multiple of 8"):
        metric.update(codes[:, :30], labels, index)
    codes[4, 2] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity at index \[4\]"):
        metric.update(codes, labels, index)
    with pytest.raises(ValueError, match="distance must be"):
        VerificationMetrics("manhattan")
    with pytest.raises(ValueError, match="fars"):
        VerificationMetrics(fars=(0.0,))


def _work(rank: int, port: int, results, shards) -> None:
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = {}
    for distance in DISTANCES:
        for name, shard in shards.items():
            metric = VerificationMetrics(distance, bootstrap=20)
            rows = shard[rank]
            if len(rows):
                for part in rows.split(8):
                    metric.update(*(t[part] for t in _data()))
            figures = metric.compute()
            kept = sum(len(t) for t in metric.labels)
            found[distance, name] = (figures, metric.score_counts().to_dict(), kept)
    results[rank] = found
    dist.destroy_process_group()


def test_two_processes_give_exactly_the_figures_of_one() -> None:
    every = torch.arange(60)
    shards = {
        "uneven, two padded": (
            torch.cat([every[::2], every[:1]]),
            torch.cat([every[1::2], every[:4]]),
        ),
        "one process without a batch": (every, every[:0]),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("fork")
    with context.Manager() as manager:
        results = manager.dict()
        workers = [context.Process(target=_work, args=(r, port, results, shards)) for r in (0, 1)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        found = dict(results)
    for distance in DISTANCES:
        single = _filled(_data(), distance, bootstrap=20)
        expected, counts = single.compute(), single.score_counts().to_dict()
        for rank in (0, 1):
            for name, shard in shards.items():
                figures, their_counts, kept = found[rank][distance, name]
                assert _same(figures, expected), (distance, name)
                assert their_counts == counts
                assert kept == len(shard[rank])  # the state is its own again after compute
