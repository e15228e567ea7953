"""Which checkpoint `--ckpt_path` means."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.lineage_fetch import PREFIX, fetch
from palmforge.errors import CheckpointError

NAMES = ("last", "best")


def resolve_checkpoint(
    given: str | None, save_dir: str, experiment: str, command: str
) -> str | None:
    """`last` and `best` → the file of the newest run of the experiment; a path → itself.

    Lightning would look for `last` in the folder of the run that is just starting, find nothing,
    and go on with fresh weights.

    Args:
        given: `last`, `best`, a file, `wandb:entity/project/name:alias`, or None.
        save_dir: Where runs are kept (`lightning_logs`).
        experiment: Whose runs.
        command: `fit` starts afresh without a checkpoint; the other commands refuse to.

    Returns:
        The file, or None for a fresh start.

    Raises:
        CheckpointError: If there is no such file, or none is given and the command needs one; or
            as `fetch`.
    """
    if given is None:
        if command == "fit":
            return None
        raise CheckpointError(
            f"{command} needs --ckpt_path: a file, or last or best of the newest run of "
            f"{experiment!r}"
        )
    if given.startswith(PREFIX):
        given = str(fetch(given, save_dir, "ckpt_path"))
    if "://" in given:
        raise CheckpointError(
            f"ckpt_path: {given} is not on this machine. Download it and give the file: a "
            "checkpoint from a stranger is not opened unseen"
        )
    if given not in NAMES:
        if not Path(given).is_file():
            raise CheckpointError(f"ckpt_path: no file {given!r}")
        if not zipfile.is_zipfile(given):
            raise CheckpointError(f"ckpt_path: {given} is not a checkpoint, or not a whole one")
        return given
    runs = Path(save_dir) / experiment
    found = sorted(runs.glob(f"version_*/checkpoints/{given}.ckpt"), key=_version)
    if not found:
        raise CheckpointError(
            f"ckpt_path: no {given}.ckpt in any run of {experiment!r} "
            f"({runs}/version_*/checkpoints)"
        )
    rank_zero_info(f"--ckpt_path {given}: {found[-1]}")
    return str(found[-1])


def _version(path: Path) -> int:
    match = re.search(r"version_(\d+)$", path.parents[1].name)
    return int(match[1]) if match else -1
