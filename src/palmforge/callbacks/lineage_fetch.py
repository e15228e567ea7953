"""`wandb:entity/project/name:alias` → weights on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.lineage import FILES, short
from palmforge.callbacks.lineage_models import FETCHED
from palmforge.data.digests import checkpoint_digest
from palmforge.errors import CheckpointError, first_line

PREFIX = "wandb:"
FOLDER = "wandb_artifacts"  # beside the runs
FILES_FOLDER = "files"  # in each of its folders, beside what tells where they are from
_FORM = re.compile(r"wandb:([^/:\s]+/[^/:\s]+)/([^/:\s]+):([^/:\s]+)")
_OFF = ("offline", "dryrun", "disabled")


def fetch(reference: str, save_dir: str, key: str) -> Path:
    """Downloads an artifact once, checks it, and gives its weights.

    It is kept as `save_dir/wandb_artifacts/<version's digest>/files/`. Processes that start
    together wait for the first. What is in the file is opened later as any other file: without
    running it.

    Args:
        reference: `wandb:entity/project/name:alias`, or `…:v3`.
        save_dir: Where runs are kept (`lightning_logs`).
        key: The setting, for messages.

    Returns:
        The one checkpoint of the artifact, or its one file; of several without a checkpoint, as
        adapters are kept, the folder.

    Raises:
        CheckpointError: If the reference is malformed, wandb is off or has no key, there is no such
            artifact, it describes weights without holding them, holds several checkpoints, or what
            came is not what was sent.
    """
    match = _FORM.fullmatch(reference)
    if match is None:
        raise CheckpointError(
            f"{key}: {reference} is not of the form wandb:entity/project/name:alias"
        )
    _check_access(reference, key)
    project, name, alias = match.groups()
    artifact = _with_files(project, name, alias, key)
    folder = Path(save_dir) / FOLDER / re.sub(r"\W", "_", artifact.digest, flags=re.ASCII)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            rank_zero_info(f"{key}: downloading {reference}")
            _download(artifact, folder, key)
    weights = _weights(folder / FILES_FOLDER, reference, key)
    told = json.loads((folder / FETCHED).read_text(encoding="utf-8"))
    if checkpoint_digest(weights) != told["sha256"]:
        raise CheckpointError(
            f"{key}: {weights} is not what {told['reference']} held when it came (SHA-256). Delete "
            f"{folder}, and it is downloaded again"
        )
    return weights


def has_wandb_key() -> bool:
    """Whether `wandb login` has been done, or the environment has a key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        return netrc().authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def _check_access(reference: str, key: str) -> None:
    mode = os.environ.get("WANDB_MODE", "")
    if mode in _OFF:
        raise CheckpointError(
            f"{key}: {reference} cannot be had with WANDB_MODE={mode}. Unset it, or give a file of "
            "this machine"
        )
    if not has_wandb_key():
        raise CheckpointError(
            f"{key}: {reference} needs an API key: `wandb login`, or WANDB_API_KEY. Or give a file "
            "of this machine"
        )


def _with_files(project: str, name: str, alias: str, key: str) -> Any:
    """The artifact, or where it is a description, the one that holds its file."""
    artifact = _ask(f"{project}/{name}:{alias}", key)
    if _own_files(artifact):
        return artifact
    digest = artifact.metadata.get("sha256")
    try:
        return _ask(f"{project}/{name}{FILES}:{short(str(digest))}", key)
    except CheckpointError:
        raise CheckpointError(
            f"{key}: wandb:{project}/{name}:{alias} only describes its file (SHA-256 {digest}): it "
            "was never uploaded. Copy it from the machine that trained it, or train with "
            "`upload: true` of the callback Lineage"
        ) from None


def _ask(path: str, key: str) -> Any:
    import wandb

    try:
        return wandb.Api().artifact(path)
    except Exception as error:  # wandb's are of many kinds
        raise CheckpointError(f"{key}: wandb:{path} cannot be had: {first_line(error)}") from error


def _own_files(artifact: Any) -> list[str]:
    return [path for path, entry in artifact.manifest.entries.items() if entry.ref is None]


def _download(artifact: Any, folder: Path, key: str) -> None:
    """To a folder aside, which is renamed when all is there and right."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    name = artifact.name.rpartition(":")[0]
    reference = f"wandb:{artifact.entity}/{artifact.project}/{artifact.name}"
    try:
        try:
            artifact.download(root=str(aside / FILES_FOLDER), skip_cache=True)
        except Exception as error:
            message = f"{key}: {reference} cannot be downloaded: {first_line(error)}"
            raise CheckpointError(message) from error
        digest = checkpoint_digest(_weights(aside / FILES_FOLDER, reference, key))
        expected = artifact.metadata.get("sha256", digest)
        if digest != expected:
            raise CheckpointError(
                f"{key}: {reference} came with SHA-256 {digest}, but was sent with {expected}"
            )
        told = {"reference": reference, "name": name.removesuffix(FILES), "sha256": digest}
        (aside / FETCHED).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        os.chmod(aside, 0o755)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _weights(folder: Path, reference: str, key: str) -> Path:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    checkpoints = [path for path in files if path.suffix == ".ckpt"]
    if len(checkpoints) > 1:
        names = ", ".join(path.name for path in checkpoints)
        raise CheckpointError(f"{key}: {reference} holds several checkpoints ({names})")
    if not files:
        raise CheckpointError(f"{key}: {reference} holds no file")
    return checkpoints[0] if checkpoints else files[0] if len(files) == 1 else folder
