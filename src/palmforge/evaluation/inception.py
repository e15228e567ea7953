"""The Inception network of FID and KID, from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from palmforge.errors import CheckpointError, ConfigError


def load_inception(path: str) -> nn.Module:
    """uint8 images [N, 3, H, W] → 2,048 features each, as FID (Heusel et al. 2017) takes them.

    torchmetrics' own, which is built on torch-fidelity; nothing is downloaded.

    Args:
        path: torch-fidelity's weights of the TensorFlow Inception, `pt_inception-2015-12-05-*.pth`.

    Raises:
        ConfigError: torch-fidelity is not installed.
        CheckpointError: There is no such file, or it is something else.
    """
    from torchmetrics.image.fid import NoTrainInceptionV3

    if not Path(path).is_file():
        raise CheckpointError(
            f"inception: no file {path!r}. Get weights-inception-2015-12-05-6726825d.pth from the "
            "releases of toshas/torch-fidelity, or leave it out: FID and KID are then those of "
            "the recogniser's features"
        )
    try:
        # torch-fidelity unpickles whatever the file says. One that holds tensors alone is harmless.
        torch.load(path, map_location="cpu", weights_only=True)
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], path)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "inception: torch-fidelity, which has this network, is not installed: `pip install "
            "torch-fidelity`. Or leave it out: FID and KID are then those of the recogniser's "
            "features"
        ) from error
    except Exception as error:  # torch.load lets anything through
        raise CheckpointError(f"inception: {path} does not hold its weights ({error})") from error
    return network.requires_grad_(False)
