"""Margin losses against few-line references, and what the phase-in does."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from palmforge.errors import ConfigError
from palmforge.losses.margin import AdaFaceLoss, MarginLoss

HEADS = ("arcface", "cosface", "subcenter", "adaface")
N, D, C, SCALE = 12, 16, 5, 20.0


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, D, generator=generator), torch.arange(N) % C


def _loss(head: str, margin: float = 0.3) -> MarginLoss:
    torch.manual_seed(1)
    return MarginLoss(head, C, D, margin, SCALE)  # type: ignore[arg-type]


def _reference(embeddings, weights, labels, change) -> torch.Tensor:
    logits = normalize(embeddings) @ normalize(weights, dim=0)
    for row, label in enumerate(labels):
        logits[row, label] = change(logits[row, label], row)
    return cross_entropy(SCALE * logits, labels)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("head", ["arcface", "cosface"])
def test_library_heads_are_the_papers_with_the_margin_that_was_asked_for(batch, head, strength):
    loss, (embeddings, labels) = _loss(head), batch
    margin = 0.3 * strength
    change = (
        (lambda c, _: c - margin)
        if head == "cosface"
        else (lambda c, _: torch.cos(torch.acos(c) + margin))
    )
    expected = _reference(embeddings, loss.head.W.detach(), labels, change)
    torch.testing.assert_close(loss(embeddings, labels, strength), expected)


def test_adaface_is_equation_13(batch):
    loss, (embeddings, labels) = AdaFaceLoss(C, D, margin=0.4, scale=SCALE), batch
    embeddings = embeddings * torch.linspace(0.2, 3.0, N)[:, None]
    norms = embeddings.norm(dim=1)
    mean, sd = 0.99 * 20 + 0.01 * norms.mean(), 0.99 * 100 + 0.01 * norms.std()
    quality = (0.333 * (norms - mean) / (sd + 1e-3)).clamp(-1, 1)
    expected = _reference(
        embeddings, loss.W.detach(), labels,
        lambda c, row: torch.cos(torch.acos(c) - 0.4 * quality[row]) - 0.4 * (quality[row] + 1),
    )  # fmt: skip
    torch.testing.assert_close(loss(embeddings, labels), expected)
    torch.testing.assert_close(loss.norm_mean, mean)


def test_adaface_asks_more_of_pictures_with_long_embeddings(batch):
    loss, (embeddings, labels) = AdaFaceLoss(C, D), batch
    loss.norm_mean.fill_(embeddings.norm(dim=1).mean())
    loss.norm_sd.fill_(1.0)
    loss.eval()
    own = normalize(loss.W.detach(), dim=0).T[labels]  # perfect embeddings: the margin is the loss
    short, long = (loss(own * norm, labels) for norm in (0.1, 50.0))
    assert long > short


@pytest.mark.parametrize("head", HEADS)
def test_strength_makes_it_harder_and_gradients_reach_both_sides(batch, head):
    loss, (embeddings, labels) = _loss(head), batch
    embeddings.requires_grad_()
    values = [loss(embeddings, labels, strength) for strength in (0.0, 0.5, 1.0)]
    assert values[0] < values[1] < values[2]
    values[2].backward()
    assert embeddings.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_under_autocast_it_stays_in_float32(batch, head):
    loss, (embeddings, labels) = _loss(head), batch
    exact = loss(embeddings.bfloat16().float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(embeddings.bfloat16(), labels)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, exact)
    assert all(p.dtype == torch.float32 for p in loss.parameters())


def test_even_cosines_without_margin_cost_log_c():
    loss = _loss("cosface")
    with torch.no_grad():
        loss.head.W.fill_(1.0)
    value = loss(torch.randn(4, D), torch.tensor([0, 1, 2, 3]), 0.0)
    assert value.item() == pytest.approx(math.log(C), abs=1e-5)


def test_an_unknown_head_is_refused():
    with pytest.raises(ConfigError, match=r"model\.head: 'softmax'"):
        MarginLoss("softmax", C, D, 0.3, SCALE)  # type: ignore[arg-type]
