"""What a ControlNet is told of a palm: pictures, and tokens."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from controlnets import references

from palmforge.errors import ConfigError
from palmforge.modules.identity_conditions import CONDITIONS, IdentityConditions

PALMS = references(2)
SETS = [some for count in (1, 2, 3) for some in combinations(CONDITIONS, count)]


def conditions(*names: str, mode: str = "soft", dial: bool = False) -> IdentityConditions:
    torch.manual_seed(0)
    dim = 16 if dial or "embedding" in names else 0
    return IdentityConditions(names, mode, token_dim=8, embedding_dim=dim, num_tokens=3, dial=dial)


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_each_alone_and_together_tells_as_many_channels_and_tokens(names):
    told = conditions(*names)
    control = told.control(PALMS)
    pictures = len({"lines", "reference"} & set(names))
    assert control.shape == (2, told.num_channels, *PALMS.shape[2:])
    assert told.num_channels == 3 * max(1, pictures)
    assert control.min() >= 0 and control.max() <= 1
    assert bool(control.any()) == (pictures > 0)
    tokens = told.identity_tokens(torch.randn(2, 16), None)
    if "embedding" in names:
        assert tokens.shape == (2, 3, 8) and not torch.equal(tokens[0], tokens[1])
    else:
        assert tokens is None


def test_lines_come_first_thrice_and_the_reference_as_it_is():
    both = conditions("reference", "lines").control(PALMS)
    lines = conditions("lines").control(PALMS)
    assert torch.equal(both[:, :3], lines)
    assert torch.equal(lines[:, :1].expand(-1, 3, -1, -1), lines)
    torch.testing.assert_close(both[:, 3:], PALMS / 255)
    torch.testing.assert_close(conditions("reference").control(PALMS / 255), PALMS / 255)


def test_binary_lines_are_black_or_white():
    assert set(conditions("lines", mode="binary").control(PALMS).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("names", [("lines",), ("reference",), ("lines", "reference")])
def test_a_gradient_reaches_the_picture(names):
    images = (PALMS / 255).requires_grad_()
    (conditions(*names).control(images) ** 2).sum().backward()
    assert all(image.abs().max() > 0 for image in images.grad)


def test_with_a_dial_the_tokens_tell_m_and_learn():
    told = conditions("lines", dial=True)
    embedding = torch.randn(1, 16).expand(3, -1)
    m = torch.tensor([-1.0, 0.0, 1.0])
    tokens = told.identity_tokens(embedding, m)
    assert tokens.shape == (3, 3, 8)
    assert not torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[1], tokens[2])
    (tokens**3).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in told.parameters())
    assert conditions("lines").identity_tokens(embedding, m) is None


@pytest.mark.parametrize("names", [(), ("creases",), ("lines", "pose")])
def test_none_or_an_unknown_condition_is_refused(names):
    with pytest.raises(ConfigError, match=r"model\.conditions: some of lines, reference, embedd"):
        conditions(*names)
