"""The Hugging Face hub: only when asked for, and never a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palmforge.errors import ConfigError


def check_hub(repo: str) -> None:
    """Finds out before any work that nothing could be uploaded.

    Raises:
        ConfigError: No name of a repository, offline, or nobody is logged in.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"push_to_hub: {error}") from error
    if "/" not in repo:
        raise ConfigError(f"push_to_hub: {repo!r} is no owner/name")
    if constants.is_offline_mode():
        raise ConfigError("push_to_hub: HF_HUB_OFFLINE is set. Unset it, or leave push_to_hub out")
    if get_token() is None:
        raise ConfigError("push_to_hub: nobody is logged in. Run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo: str, files: Sequence[str]) -> str:
    """Uploads these files, and no others, to a repository that is private if it is new.

    Args:
        folder: Where they lie.
        repo: owner/name.
        files: Names in it.

    Returns:
        The address.

    Raises:
        ConfigError: The hub did not take them; they are still in the folder.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        address = str(api.create_repo(repo, private=True, exist_ok=True))
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(files),
            commit_message="Export of PalmForge",
        )
    except Exception as error:  # the hub's, and whatever the network lets through
        raise ConfigError(
            f"push_to_hub: {repo} did not take it ({error}). The files are in {folder}"
        ) from error
    return address
