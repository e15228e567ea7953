"""Seeds made of numbers: pure functions, so that draws do not depend on who makes them."""

from __future__ import annotations

import numpy as np


def mixed(*numbers: int) -> int:
    """A seed in [0, 2^32) from numbers >= 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def mixed_wide(*numbers: int) -> int:
    """A seed in [0, 2^63), as torch's generators take them, from numbers >= 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
