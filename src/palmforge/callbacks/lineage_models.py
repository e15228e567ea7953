"""The models that a run stands on, and those that it makes, as nodes of its lineage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lightning as L
import yaml

import palmforge
from palmforge.callbacks.lineage_nodes import Inputs, Node, legal_name
from palmforge.data.digests import checkpoint_digest

FETCHED = "artifact.json"  # beside a folder of files that came from wandb: what they are there

# Attribute of a module → what the weights that it names are to it. Words of the user's settings.
_ATTRIBUTES = {
    "teacher_ckpt": "teacher",
    "weights": "weights",
    "lora": "lora",
    "start_from": "controlnet",
    "controlnet_path": "controlnet",
    "generator_path": "generator",
    "recogniser_path": "recogniser",
    "recogniser": "recogniser",
    "pretrained_model_name_or_path": "base",
    "pretrained_vae_model_name_or_path": "autoencoder",
}
_ONLY_TRAINING = {"teacher_ckpt", "weights", "start_from"}  # a checkpoint comes in their place
_ROLES = {
    "HashingTeacher": "teacher",
    "HashingStudent": "student",
    "MarginRecognizer": "recogniser",
    "CCNetRecognizer": "recogniser",
    "IdentityGenerator": "lora",
    "IdentityControlNet": "controlnet",
    "ExemplarInpainter": "inpainter",
    "PalmAutoencoder": "autoencoder",
    "PalmDetectorModule": "detector",
    "PalmLandmarksModule": "landmarks",
}


def role_of(module: L.LightningModule) -> str:
    """What the model of a run is called in the graph."""
    role = _ROLES.get(type(module).__name__, "model")
    if role == "student" and getattr(module, "teacher_ckpt", None):
        return "distilled student"
    if role == "lora" and getattr(module, "lora", None) is None:
        return "generator"  # trained as a whole
    return role


def parents(module: L.LightningModule, checkpoint: str | None, training: bool) -> Inputs:
    """The weights that a run reads, each with its role.

    Args:
        module: Of the run.
        checkpoint: `--ckpt_path`, or None.
        training: Whether this is a fit.
    """
    found: Inputs = []
    if checkpoint is not None:
        role = "resumed" if training else "checkpoint"
        found.append((role, model_node(Path(checkpoint), role)))
    for attribute, role in _ATTRIBUTES.items():
        value = getattr(module, attribute, None)
        if not isinstance(value, str) or not _reads(module, attribute, checkpoint, training):
            continue
        place = _place(type(module).__name__, role, value)
        if place.exists():
            found.append((role, model_node(place, role)))
        else:
            found.append((role, _by_name(value, getattr(module, "revision", None))))
    return found


def _reads(
    module: L.LightningModule, attribute: str, checkpoint: str | None, training: bool
) -> bool:
    """Whether these settings make the module open what the attribute names."""
    if attribute == "recogniser":
        return bool(getattr(module, "_needs_recogniser", True))
    if attribute == "weights":
        return training and checkpoint is None
    return training or checkpoint is None or attribute not in _ONLY_TRAINING


def _place(module: str, role: str, value: str) -> Path:
    """Where weights lie that the package calls by a name."""
    # These rooms import this one.
    from palmforge.modules import (
        controlnet_files,
        paint_by_example,
        stable_diffusion,
        vgg_weights,
    )
    from palmforge.recognition.weights import EMBEDDED, weights_path

    if role == "recogniser" or value in EMBEDDED:
        return weights_path(value)
    if module in ("Deidentifier", "ExemplarInpainter") and value == paint_by_example.EMBEDDED:
        return paint_by_example.EMBEDDED_PATH
    named = {
        ("controlnet", controlnet_files.PRETRAINED): controlnet_files.PRETRAINED_PATH,
        ("generator", controlnet_files.PRETRAINED): stable_diffusion.EMBEDDED_PATH,
        ("base", stable_diffusion.EMBEDDED): stable_diffusion.EMBEDDED_PATH,
        **{("weights", name): path for name, path in vgg_weights.EMBEDDED.items()},
    }
    return named.get((role, value), Path(value).expanduser())


def _by_name(value: str, revision: str | None) -> Node:
    """Weights that are not on this machine under that name: of a hub, or rendered."""
    if Path(value).is_absolute() or value.startswith("~"):
        value = Path(value).name
    digest = hashlib.sha256(f"{value}@{revision}".encode()).hexdigest()
    facts = {"called": value, "revision": revision, "digest_of": "its name, not its weights"}
    return Node(legal_name(value), "model", digest, facts)


def model_node(path: Path, role: str) -> Node:
    """A file or a folder of weights that a run reads.

    It has the name under which the run that made it told it: that of its experiment.

    Args:
        path: Where it lies.
        role: What it is to the run.
    """
    facts: dict[str, Any] = {"role": role, "file": path.name}
    assets = Path(palmforge.__file__).resolve().parent / "assets"
    if path.resolve().is_relative_to(assets):
        facts["package"] = f"palmforge {palmforge.__version__}"
        name = legal_name("palmforge", path.resolve().relative_to(assets).parts[0])
    else:
        name = legal_name(_experiment(path) or path.stem)
    return Node(name, "model", str(checkpoint_digest(path)), facts, path)


def _experiment(path: Path) -> str | None:
    """Of a run's checkpoint, or of one that came from wandb."""
    for above in path.resolve().parents[:2]:  # of the folder itself, or of a file in it
        if (beside := above / FETCHED).is_file():
            return str(json.loads(beside.read_text(encoding="utf-8"))["name"])
    config = path.parent.parent / "config.yaml"
    if path.parent.name != "checkpoints" or not config.is_file():
        return None
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    return content.get("name") if isinstance(content, dict) else None


def made_models(
    folder: Path, experiment: str, facts: dict[str, Any], best: dict[str, Any]
) -> list[tuple[Node, list[str]]]:
    """The checkpoints of a fit with their aliases: `last`, `best`, or both of one file.

    Args:
        folder: Of the run.
        experiment: Its name.
        facts: Of both.
        best: Of the best one: what it was chosen by.
    """
    found: dict[str, tuple[Node, list[str]]] = {}
    for alias in ("last", "best"):
        path = folder / "checkpoints" / f"{alias}.ckpt"
        if not path.exists():
            continue
        digest = str(checkpoint_digest(path))
        if digest in found:
            found[digest][1].append(alias)
            continue
        size = path.stat().st_size if path.is_file() else None
        told = {**facts, "sha256": digest, "file": path.name, "bytes": size}
        told |= best if alias == "best" else {}
        node = Node(legal_name(experiment), "model", digest, told, path)
        found[digest] = (node, [alias])
    return list(found.values())
