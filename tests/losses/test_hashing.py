"""Eqs. 1 to 3 against a Python double loop and by hand."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from palmforge.losses.hashing import pairwise_hash_loss, quantization_loss


def _codes(n: int = 9, bits: int = 16, seed: int = 0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.tanh(torch.randn(n, bits, generator=generator, dtype=torch.float64))
    return codes.to(dtype).requires_grad_(), torch.arange(n) % 3


def _double_loop(codes, labels, margin):
    total = codes.new_zeros(())
    for i in range(len(codes)):
        for j in range(i + 1, len(codes)):
            distance = (codes[i] - codes[j]).square().sum()
            same = float(labels[i] == labels[j])
            total = total + 0.5 * same * distance
            total = total + 0.5 * (1 - same) * torch.clamp(margin - distance, min=0)
    return total


@pytest.mark.parametrize("margin", [1.0, 14.0, 180.0])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_pair_loss_and_its_gradient_are_those_of_the_double_loop(margin, reduction) -> None:
    codes, labels = _codes()
    ours = pairwise_hash_loss(codes, labels, margin, reduction)
    theirs = _double_loop(codes, labels, margin) / (36 if reduction == "mean" else 1)
    torch.testing.assert_close(ours, theirs)
    (gradient,) = torch.autograd.grad(ours, codes)
    (expected,) = torch.autograd.grad(theirs, codes)
    torch.testing.assert_close(gradient, expected)


def test_pair_loss_by_hand() -> None:
    # D(0, 1) = 4 · 2 bits = 8, same; D(0, 2) = 16 and D(1, 2) = 8, different; t = 10.
    codes = torch.tensor([[1.0, 1, 1, 1], [-1, -1, 1, 1], [-1, -1, -1, -1]])
    labels = torch.tensor([7, 7, 2])
    assert pairwise_hash_loss(codes, labels, margin=10.0).item() == 0.5 * 8 + 0.5 * (10 - 8)
    assert pairwise_hash_loss(codes, labels, 10.0, reduction="mean").item() == pytest.approx(5 / 3)


def test_margin_of_the_paper_is_45_bits() -> None:
    ones, labels = torch.ones(128), torch.tensor([0, 1])
    for bits, expected in ((44, 0.5 * 4), (45, 0.0), (46, 0.0), (0, 90.0)):
        other = ones.clone()
        other[:bits] = -1
        assert pairwise_hash_loss(torch.stack([ones, other]), labels).item() == expected


def test_gradients_hold_in_float64() -> None:
    codes, labels = _codes(6, 8)
    assert gradcheck(lambda c: pairwise_hash_loss(c, labels, 9.0, "mean"), codes)
    assert gradcheck(lambda c: quantization_loss(c, "mean"), codes)


def test_identical_codes_cost_nothing_in_one_identity_and_the_margin_in_two() -> None:
    codes = torch.tanh(torch.randn(1, 128, generator=torch.Generator().manual_seed(1)))
    codes = codes.repeat(5, 1).requires_grad_()
    same = pairwise_hash_loss(codes, torch.zeros(5))
    assert same.item() == pytest.approx(0, abs=1e-3)
    assert pairwise_hash_loss(codes, torch.arange(5)).item() == pytest.approx(10 * 90, rel=1e-5)
    (gradient,) = torch.autograd.grad(same, codes)
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_without_a_pair_the_loss_is_zero_and_still_has_a_gradient(count, reduction) -> None:
    codes = torch.full((count, 8), 0.5, requires_grad=True)
    loss = pairwise_hash_loss(codes, torch.zeros(count, dtype=torch.int64), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert (codes.grad == 0).all()


def test_quantization_by_hand_and_against_the_rows() -> None:
    codes = torch.tensor([[1.0, -1, 1, -1], [0.0, 0, 0, 0], [0.4, -0.2, 1, 1]])
    assert quantization_loss(codes).item() == pytest.approx(0 + 2 + 1.0)
    assert quantization_loss(codes, reduction="mean").item() == pytest.approx(1.0)
    random, _ = _codes()
    rows = sum(sum((abs(h) - 1) ** 2 for h in row) ** 0.5 for row in random.tolist())
    assert quantization_loss(random).item() == pytest.approx(rows)


def test_quantization_gradient_is_zero_where_the_norm_has_none() -> None:
    codes = torch.tensor([[1.0, -1.0], [0.5, 0.5]], requires_grad=True)
    quantization_loss(codes).backward()
    assert codes.grad[0].tolist() == [0, 0]
    assert codes.grad[1].tolist() == pytest.approx([-(0.5**0.5)] * 2)


def test_bf16_autocast_computes_in_float32() -> None:
    codes, labels = _codes(32, 128, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pair, quantization = pairwise_hash_loss(codes, labels), quantization_loss(codes)
    assert pair.dtype == quantization.dtype == torch.float32
    wide = codes.detach().double()
    torch.testing.assert_close(pair.double(), _double_loop(wide, labels, 180.0), rtol=1e-5, atol=0)
    rows = (wide.abs() - 1).norm(dim=1).sum()
    torch.testing.assert_close(quantization.double(), rows, rtol=1e-5, atol=0)
    (pair + quantization).backward()
    assert codes.grad.dtype == torch.bfloat16
    assert codes.grad.isfinite().all()


def test_memory_is_of_pairs_and_not_of_pairs_times_bits() -> None:
    n, bits = 64, 128
    codes, labels = _codes(n, bits, dtype=torch.float32)
    with torch.profiler.profile(profile_memory=True) as profile:
        pairwise_hash_loss(codes, labels).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest <= 4 * 4 * n * max(n, bits)  # a few such arrays; pairs × bits would be 64×


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes \[N, B\] and labels \[N\]"):
        pairwise_hash_loss(torch.zeros(4, 8), torch.zeros(3))
    with pytest.raises(ValueError, match=r"codes \[N, B\]"):
        pairwise_hash_loss(torch.zeros(4), torch.zeros(4))
    for loss in (lambda: pairwise_hash_loss(torch.zeros(4, 8), torch.zeros(4), reduction="none"),
                 lambda: quantization_loss(torch.zeros(4, 8), reduction="none")):  # fmt: skip
        with pytest.raises(ValueError, match="'sum' or 'mean'"):
            loss()
