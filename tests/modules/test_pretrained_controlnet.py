"""The ControlNet of the package keeps the palms that it is shown, and its dial turns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.data.synthetic.render import render_roi
from palmforge.modules.identity_controlnet import load_controlnet
from palmforge.recognition import load

NUM = 4


@pytest.fixture(scope="module")
def palms() -> torch.Tensor:
    """Rendered with a seed that it was not trained on."""
    pictures = [render_roi(palm, 1, "IN", 64, seed=99)[0] for palm in range(NUM)]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())


def test_captures_are_of_the_palm_that_was_shown_and_less_so_with_a_smaller_m(palms):
    module = load_controlnet("pretrained")
    module.num_inference_steps = 6
    judge = load("synthetic-only")
    known = judge.embed(palms)
    own, others = {}, {}
    for m in (1.0, 0.0):
        made = module.sample(["a left palm"] * NUM, list(range(NUM)), palms, similarity=m)
        cosine = judge.embed(made) @ known.T
        own[m] = float(cosine.diagonal().mean())
        others[m] = float((cosine.sum() - cosine.trace()) / (NUM * (NUM - 1)))
    assert own[1.0] > others[1.0] + 0.3
    assert own[1.0] > own[0.0] + 0.2
