"""Audits of drawn templates and hashes: clean sets pass, a leak of 1 % is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import record

from palmforge.errors import DataError
from palmforge.evaluation.privacy import COPY, PALM, SAME, Audit, audit_pictures
from palmforge.evaluation.privacy_pictures import Seen

_DIM = 64
_TO_BITS = np.random.default_rng(0).normal(size=(_DIM, 256))


def _seen(rng: np.random.Generator, name: str, palms: int, images: int = 1) -> Seen:
    """Palms somewhere on a sphere; their pictures near them."""
    palm = np.repeat(rng.normal(size=(palms, _DIM)), images, axis=0)
    found = palm + 0.2 * rng.normal(size=palm.shape)
    bits = (found + 0.4 * rng.normal(size=palm.shape)) @ _TO_BITS > 0
    records = [
        record(f"/{name}/{who:03d}/{image}.png", f"{name}_{who:03d}")
        for who in range(palms)
        for image in range(images)
    ]
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    digests = [rng.bytes(16) for _ in records]
    flat = np.zeros(len(records), bool)
    return Seen(
        records, torch.from_numpy(unit).float(), np.packbits(bits, axis=1)[:, None], digests, flat
    )


def _sets(seed: int, images: int = 1, palms: int = 200) -> tuple[Seen, Seen, Seen]:
    rng = np.random.default_rng(seed)
    return (
        _seen(rng, "generated", palms, images), _seen(rng, "training", 100, 2),
        _seen(rng, "held", 100, 2),
    )  # fmt: skip


def _audit(sets: tuple[Seen, Seen, Seen], alpha: float = 0.01) -> Audit:
    return audit_pictures(*sets, alpha, 4)


def test_clean_sets_pass_and_one_percent_of_copies_is_found():
    alarms, sets = 0, 20
    for seed in range(sets):
        generated, training, held_out = _sets(seed)
        alarms += bool(_audit((generated, training, held_out)).reasons)
        places = {20: 3, 120: 77}  # generated row: training row
        for row, known in places.items():
            jitter = 0.02 * torch.randn(_DIM, generator=torch.Generator().manual_seed(seed))
            generated.embeddings[row] = training.embeddings[known] + jitter
            generated.hashes[row] = training.hashes[known]
            generated.hashes[row, 0, 0] ^= 0b1001  # two bits of 256
        found = _audit((generated, training, held_out))
        assert places.items() <= {leak.row: leak.training_row for leak in found.leaks}.items()
        assert "2 pictures with the perceptual hash" in found.reasons[0]
    assert alarms <= 1  # 0.2 expected


def test_each_kind_of_leak_is_told_and_a_picture_comes_once():
    generated, training, held_out = _sets(1)
    generated.digests[5] = training.digests[9]
    generated.embeddings[5] = training.embeddings[9]
    generated.hashes[6] = training.hashes[10]
    generated.embeddings[7] = training.embeddings[11]
    audit = _audit((generated, training, held_out))
    told = [(leak.kind, leak.row, leak.training_row) for leak in audit.leaks]
    assert told == [(SAME, 5, 9), (COPY, 6, 10), (PALM, 7, 11)]
    assert audit.seen_again is not None and 0.0 <= audit.seen_again <= 1.0


def test_pictures_of_one_grey_are_nobody_s_copies():
    generated, training, held_out = _sets(2)
    generated.digests[5], generated.hashes[5] = training.digests[9], training.hashes[9]
    generated.flat[5] = training.flat[9] = True
    assert _audit((generated, training, held_out)).leaks == []
    training.flat[:] = True
    assert np.isinf(_audit_near(generated, training)).all()


def _audit_near(generated: Seen, training: Seen) -> np.ndarray:
    from palmforge.evaluation.privacy import near_to

    return near_to(generated, training).bits


def test_identities_are_compared_by_equally_many_pictures():
    audit = _audit(_sets(3, images=6))
    coarse, fine = audit.matches
    assert coarse.images == 2 and coarse.excess.p_value > 0.01
    assert coarse.of_all >= coarse.excess.share  # more pictures, more chances
    assert fine.threshold < coarse.threshold


def test_many_identities_a_little_too_near_are_seen_as_a_whole():
    generated, training, held_out = _sets(4)
    mixed = generated.embeddings[:60] + 0.9 * training.embeddings[:60]
    generated.embeddings[:60] = torch.nn.functional.normalize(mixed, dim=1)
    coarse = _audit((generated, training, held_out)).matches[0]
    assert coarse.excess.p_value < 1e-3 and coarse.excess.share > coarse.excess.visible


def test_sets_that_allow_no_answer_are_refused():
    generated, training, held_out = _sets(5)
    held_out.digests[4] = training.digests[8]
    with pytest.raises(DataError, match="1 of 200 pictures are training pictures"):
        _audit((generated, training, held_out))
    few = _seen(np.random.default_rng(0), "held", 19)
    with pytest.raises(DataError, match="19 identities; 20 or more"):
        _audit((generated, training, few))
    none = _seen(np.random.default_rng(0), "generated", 0)
    with pytest.raises(DataError, match="images: no picture"):
        _audit((none, training, few))
