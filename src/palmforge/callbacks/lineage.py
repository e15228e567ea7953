"""What a run was made of and what it has made, as artifacts of Weights & Biases."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_warn

from palmforge.callbacks import deidentification_report
from palmforge.callbacks.deidentification_writer import DeidentificationWriter
from palmforge.callbacks.evaluation_report import RESULTS_NAME
from palmforge.callbacks.factory_writer import FactoryWriter
from palmforge.callbacks.image_writer import ImageWriter
from palmforge.callbacks.lineage_models import made_models, parents, role_of
from palmforge.callbacks.lineage_nodes import (
    MANIFEST,
    Inputs,
    Node,
    folder_node,
    inputs_of_data,
    report_node,
    selection,
)
from palmforge.callbacks.run_folder import output_folder, run_folder
from palmforge.callbacks.run_report import git_revision
from palmforge.data.digests import file_digest
from palmforge.errors import first_line

_WRITERS = (ImageWriter, FactoryWriter, DeidentificationWriter)
FILES = ".files"  # behind a model's name: the artifact that holds its file


class Lineage(L.Callback):
    """Links data set, ROI cache, models, generated sets and reports in wandb's graph.

    Every artifact is a description: a SHA-256, names, counts, metrics. No picture, no weights, no
    path and no list of files is sent. The same file or data set is the same artifact version in
    all runs, so that the graph joins a student to its teacher, and a teacher to its data.

    It does nothing where no `WandbLogger` is, and never ends a run: what wandb refuses is a
    warning.

    Args:
        upload: Also send the checkpoints of a fit, as artifacts `<name>.files`. Then
            `wandb:entity/project/name:best` can be given as a checkpoint elsewhere. A network that
            was trained on people's palms tells something of them, and its checkpoint holds the
            identities' names and paths of this machine: ask yourself first.
    """

    def __init__(self, upload: bool = False) -> None:
        self.upload = upload
        self._inputs: Inputs = []
        self._told: set[tuple[str, str]] = set()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What it starts from."""
        self._use(trainer, pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What is tested, on what."""
        self._use(trainer, pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What generates, from what."""
        self._use(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Its checkpoints. After an error or a signal there are none: the run is resumed."""
        folder = run_folder(trainer)
        if folder is not None:
            self._tell(trainer, lambda run: self._make_models(run, trainer, pl_module, folder))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Its numbers."""
        folder = run_folder(trainer)

        def make(run: Any) -> None:
            node = report_node(_results(trainer, folder), _experiment(trainer), _metrics(trainer))
            if node is not None:
                self._make(run, node, [])

        self._tell(trainer, make)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """The set that `predict` has written: its writer has just joined the manifest."""
        if stage != "predict" or getattr(_data(trainer), "plan", None) is None:
            return
        out = written_folder(trainer)
        if (out / MANIFEST).is_file():
            self._tell(trainer, lambda run: self._make(run, folder_node(out), []))

    def _use(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        def use(run: Any) -> None:
            training = trainer.state.fn == "fit"
            checkpoint = str(trainer.ckpt_path) if trainer.ckpt_path else None
            self._inputs = inputs_of_data(_data(trainer)) + parents(module, checkpoint, training)
            for role, node in self._inputs:
                if self._is_new(node):
                    _use_artifact(run, _artifact(node, {"used_as": role}))

        self._tell(trainer, use)

    def _make_models(
        self, run: Any, trainer: L.Trainer, module: L.LightningModule, folder: Path
    ) -> None:
        facts = {
            "role": role_of(module),
            "module": type(module).__name__,
            "step": trainer.global_step,
            "metrics": _metrics(trainer),
            "revision": git_revision(),
            "selection": selection(_data(trainer)),
            "parents": [node.reference(role) for role, node in self._inputs],
        }
        if (folder / "config.yaml").is_file():
            facts["config_sha256"] = file_digest(folder / "config.yaml")
        models = made_models(folder, _experiment(trainer), facts, _best(trainer))
        for node, aliases in models:
            self._make(run, node, [*aliases, short(node.digest)])

    def _make(self, run: Any, node: Node, aliases: list[str]) -> None:
        if not self._is_new(node):
            return
        made_from = {} if "parents" in node.facts else {"made_from": self._references()}
        run.log_artifact(_artifact(node, made_from), aliases=aliases)
        if self.upload and node.kind == "model" and node.path is not None:
            run.log_artifact(_with_file(node), aliases=aliases)

    def _references(self) -> list[dict[str, str]]:
        return [node.reference(role) for role, node in self._inputs]

    def _is_new(self, node: Node) -> bool:
        """Once a run: a test after a fit uses what the run has told already."""
        key = (node.kind, node.digest)
        is_new = key not in self._told
        self._told.add(key)
        return is_new

    def _tell(self, trainer: L.Trainer, tell: Callable[[Any], None]) -> None:
        """On rank 0, where there is a tracker. A training is worth more than its entry there."""
        logger = next((one for one in trainer.loggers if isinstance(one, WandbLogger)), None)
        if logger is None or not trainer.is_global_zero:
            return
        try:
            tell(logger.experiment)
        except Exception as error:  # wandb's are of many kinds
            rank_zero_warn(f"Lineage: wandb was not told: {first_line(error)}")


def written_folder(trainer: L.Trainer) -> Path:
    """Where `predict` writes its set, as its writer finds out: `data.out` wins."""
    given = [c.directory for c in _callbacks(trainer) if isinstance(c, _WRITERS)]
    chosen = getattr(_data(trainer), "out", None) or next(filter(None, given), None)
    return output_folder(trainer, chosen, "data.out")


def short(digest: str) -> str:
    """The alias by which a model's description and its file find each other."""
    return f"sha256-{digest[:12]}"


def _artifact(node: Node, more: dict[str, Any]) -> Any:
    """A description. Its one entry is a reference to a digest, which says when two are the same."""
    import wandb
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

    artifact = wandb.Artifact(node.name, type=node.kind, metadata={**node.facts, **more})
    # What `add_reference` makes of a scheme that it does not know, but for a warning each time.
    # A file with the digest in it would lie in the user's home until `wandb sync`.
    told = f"sha256:{node.digest}"
    entry = ArtifactManifestEntry.model_validate({"path": "sha256", "ref": told, "digest": told})
    artifact.manifest.add_entry(entry)
    return artifact


def _with_file(node: Node) -> Any:
    """Apart from the description, which others who have the file must be able to make again."""
    import wandb

    assert node.path is not None
    facts = {"sha256": node.digest, "describes": node.name}
    artifact = wandb.Artifact(node.name + FILES, type="model-files", metadata=facts)
    if node.path.is_dir():
        artifact.add_dir(str(node.path), policy="immutable")
    else:  # not copied to the user's home first
        artifact.add_file(str(node.path), policy="immutable")
    return artifact


def _use_artifact(run: Any, artifact: Any) -> None:
    if run.offline:
        # `use_artifact` wants a server. This is what it does with an artifact that is new, and
        # `wandb sync` makes an input of it.
        run._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)


def _experiment(trainer: L.Trainer) -> str:
    return str(trainer.loggers[0].name or "unnamed")


def _data(trainer: L.Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


def _results(trainer: L.Trainer, folder: Path | None) -> Path | None:
    """What a report has written, in the run's folder or in that of de-identified palms."""
    if folder is None:
        return None
    out = Path(getattr(_data(trainer), "out", None) or folder / "deidentification").expanduser()
    files = (folder / RESULTS_NAME, out / deidentification_report.RESULTS)
    return next((file for file in files if file.is_file()), None)


def _callbacks(trainer: L.Trainer) -> list[L.Callback]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def _metrics(trainer: L.Trainer) -> dict[str, float | None]:
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return {name: v if math.isfinite(v) else None for name, v in values.items()}  # JSON has no NaN


def _best(trainer: L.Trainer) -> dict[str, Any]:
    """By what the best checkpoint was chosen."""
    for callback in _callbacks(trainer):
        if isinstance(callback, ModelCheckpoint) and callback.best_model_score is not None:
            score = float(callback.best_model_score)
            return {"chosen_by": callback.monitor, "score": score}
    return {}
