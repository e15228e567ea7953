"""`test` of a `Deidentifier` → the tables of paper 001, and what goes beyond them."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.rank_zero import on_rank_zero
from palmforge.callbacks.run_folder import output_folder
from palmforge.callbacks.run_report import provenance, write_problems
from palmforge.data.atomic import write_aside
from palmforge.data.deidentification.output import is_new_folder, made_by
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.generation.output import claim, told_if_full
from palmforge.errors import ConfigError
from palmforge.evaluation.attack_rates import AttackRates
from palmforge.evaluation.deidentification_figures import hands_montage
from palmforge.evaluation.deidentification_findings import (
    DeidentificationFindings,
    find_out,
    first_method,
    labels_of_sources,
)
from palmforge.evaluation.deidentification_measure import Instruments
from palmforge.evaluation.deidentification_summary import (
    as_json,
    figures_of,
    load_deidentification_reference,
    summarize_deidentification,
)
from palmforge.evaluation.deidentified_folder import DeidentifiedPalms
from palmforge.evaluation.finite import finite
from palmforge.evaluation.perceptual import fid_features, load_perceptual
from palmforge.modules.deidentification_attack import Attack, AttackSettings, attack
from palmforge.recognition import load
from palmforge.report import Block, Cell, Heading, Rate, Table, log_to_wandb, write_report

SETTINGS, RESULTS = "measured.json", "deidentification.json"


class DeidentificationReport(L.Callback):
    """Measures what palms lose, each photograph by each method, and writes OUT/report.html.

    OUT also gets report.md with figures/, deidentification.json, pictures.png (hands: biometric
    data), problems.csv, and group-*.npz: ROIs and figures of each photograph, from which a run that
    was killed goes on with the same command. The figures go to the loggers; pictures never do.

    Args:
        recognisers: Name in the tables → what `palmforge.recognition.load` takes.
        directory: OUT, new or empty or of the same settings, not the photographs' folder; null:
            `deidentification` in the run's folder. `--data.out` wins.
        reference: A YAML with a paper's figures, to stand beside ours, or null.
        roi_size: Side of the ROIs that recognisers see, in pixels.
        perceptual: `alex`, `vgg` or a file: LPIPS; null: a distance of the package's own features.
        inception: A file, for FID; null: the same features.
        attack: How the attacker trains who knows the method; null: none.
        pictures: Photographs that are looked at.
        intervals: Resamples of identities for 95 % intervals; 0: none.
        feather: As in `DeidentificationWriter`.
    """

    def __init__(
        self,
        recognisers: dict[str, str] = {"MTCC": "mtcc", "CompCode": "competitive-code"},  # noqa: B006
        directory: str | None = None,
        reference: str | None = None,
        roi_size: int = 128,
        perceptual: str | None = None,
        inception: str | None = None,
        attack: AttackSettings | None = AttackSettings(),  # noqa: B008  (frozen)
        pictures: int = 6,
        intervals: int = 1000,
        feather: float = 0.01,
    ) -> None:
        if not recognisers:
            raise ConfigError("DeidentificationReport.recognisers: name one or more")
        for key, value, least in (("roi_size", roi_size, 32), ("intervals", intervals, 0),
                                  ("pictures", pictures, 0)):  # fmt: skip
            if value < least:
                raise ConfigError(f"DeidentificationReport.{key}: {value} is less than {least}")
        self.recognisers = recognisers
        self.directory = directory
        self.reference = reference
        self.roi_size = roi_size
        self.perceptual = perceptual
        self.inception = inception
        self.attack = attack
        self.pictures = pictures
        self.intervals = intervals
        self.feather = feather

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Finds what is missing before anything is sampled, and what is done already.

        Raises:
            ConfigError: No directory is known, it is the photographs', or holds other files; a
                recogniser or the reference is none.
        """
        datamodule: Any = getattr(trainer, "datamodule", None)
        plan = getattr(datamodule, "plan", None)
        mine = stage == "test" and isinstance(plan, DeidentificationPlan)
        self._plan = plan if mine else None
        if self._plan is None:
            return
        methods = getattr(pl_module, "methods", None)
        if methods is None:
            raise ConfigError(f"model: {type(pl_module).__name__} is no Deidentifier")
        warnings.filterwarnings("ignore", "Total length of `DataLoader` across ranks is zero")
        given = datamodule.out or self.directory
        self._out = output_folder(trainer, given, "data.out", "deidentification")
        self._is_rendered = datamodule.images == SYNTHETIC
        self._methods = methods
        self._palms = DeidentifiedPalms(self._out, list(methods))
        self._identities: dict[str, str] = datamodule.identities
        self._others: dict[str, str] = datamodule.others
        self._read = None
        if self.reference is not None:
            self._read = load_deidentification_reference(self.reference)
        self._judges = {name: load(given) for name, given in self.recognisers.items()}
        self._perceptual = load_perceptual(self.perceptual)
        self._features = fid_features(self.inception)
        done = on_rank_zero(trainer, self._look)
        self._shown = set(_one_of_each(self._identities)[: self.pictures])
        self._plan.leave_out(done, at_least=trainer.world_size)
        self._plan.is_kept = True
        self._claimed = False
        count = sum(source in done for source in self._plan.sources)
        rank_zero_info(f"{self._out}: {count:,} of {len(self._plan.sources):,} are measured")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claims the directory; the model is loaded now."""
        if self._plan is None:
            return
        on_rank_zero(trainer, lambda: self._claim(pl_module))
        self._claimed = True
        plan = self._plan
        self._instruments = Instruments(
            plan.root, self._methods, plan.localizer, plan.segmenter, self._perceptual,
            self._features, self.roi_size, self.feather,
        )  # fmt: skip

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """A group: measured and kept.

        Raises:
            DataError: If the disk is full.
        """
        if self._plan is None or not isinstance(outputs, dict):
            return
        measured, problems = [], {}
        for row, photograph in enumerate(outputs["photographs"]):
            repainted = {name: made[row] for name, made in outputs["repainted"].items()}
            found = self._instruments.measure(
                photograph, repainted, outputs["embeddings"][row], photograph.source in self._shown
            )
            if isinstance(found, str):
                problems[photograph.source] = found
            else:
                measured.append(found)
        with told_if_full(self._out, lambda: f"{len(self._palms.done()):,} photographs"):
            self._palms.write(measured, problems)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Tables and report, on rank 0. Lightning skips `on_test_end` where nothing was left."""
        if stage != "test" or self._plan is None or trainer.interrupted:
            return
        if not self._claimed:
            self.on_test_start(trainer, pl_module)
        trainer.strategy.barrier("photographs measured")
        plan, self._plan = self._plan, None
        if not trainer.is_global_zero:
            return
        left = len(plan.sources) - len(self._palms.done() & set(plan.sources))
        if left:  # --trainer.limit_test_batches
            rank_zero_info(f"{left:,} photographs are not measured; the same command goes on")
        self._report(trainer, plan)

    def _report(self, trainer: L.Trainer, plan: DeidentificationPlan) -> None:
        judges, seed = self._judges, plan.preparation.seed
        found = find_out(self._palms, self._identities, judges, self.intervals, seed)
        found.remarks = self._remarks(found)
        attacked = self._attacked(found)
        names = (self._perceptual.name, self._features.name)
        problems = {**self._others, **self._palms.problems}
        blocks: list[Block] = [] if attacked is None else [_HEADING, _attack_table(attacked)]
        where = provenance()
        report = summarize_deidentification(found, names, self._read, blocks, problems, where)
        path = write_report(report, self._out)
        if problems:
            write_problems(self._out / "problems.csv", problems)
        if shown := self._palms.shown():
            with write_aside(self._out / "pictures.png") as aside:
                hands_montage(shown, found.methods).save(aside, format="PNG")
        content = {**as_json(found), "attack": _attack_json(attacked), "provenance": where}
        with write_aside(self._out / RESULTS) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_metrics({f"test/{k}": v for k, v in figures_of(found).items() if v == v})
            if isinstance(logger, WandbLogger):
                log_to_wandb(report, logger.experiment)
        rank_zero_info(f"{path}")

    def _attacked(self, found: DeidentificationFindings) -> Attack | None:
        if self.attack is None:
            return None
        labels = labels_of_sources(self._palms, self._identities)
        pictures, sources = first_method(self._palms)
        originals = torch.from_numpy(self._palms.array("roi"))
        if found.num_identities < 4:
            found.remarks.append("No attack: four identities or more are needed for one.")
            return None
        return attack(originals, labels, pictures, sources, self.attack, resamples=self.intervals)

    def _remarks(self, found: DeidentificationFindings) -> list[str]:
        first = found.methods[0]
        remarks = [
            f"{found.num_photographs:,} photographs of {found.num_identities:,} hands; "
            f"{found.num_variants} results each by “{first}”, one by the other methods. ROIs of "
            "originals and results are cut at the same place, that of the original."
        ]
        if self._is_rendered:
            remarks.append("The hands are rendered: no figure here is one of real hands.")
        return remarks

    def _look(self) -> set[str]:
        """Photographs that are measured. Raises what can be known before the model is loaded."""
        assert self._plan is not None
        is_new = is_new_folder(self._out, SETTINGS, Path(self._plan.root))
        return set() if is_new else self._palms.done()

    def _claim(self, module: Any) -> None:
        assert self._plan is not None
        settings = {
            **made_by(module), **self._plan.settings(),
            "methods": {name: vars(method) for name, method in self._methods.items()},
            "shown_exemplars": list(self._plan.exemplars), "roi_size": self.roi_size,
            "perceptual": self._perceptual.name, "features": self._features.name,
            "feather": self.feather, "pictures": self.pictures,
        }  # fmt: skip
        claim(self._out / SETTINGS, settings, "data.out")


_HEADING = Heading("The attacker who knows the method")


def _attack_table(found: Attack) -> Table:
    """Before and after he has learnt from other people's hands."""
    rows: list[list[Cell]] = []
    for who, seen in (("not adapted", found.before), ("trained on the method", found.after)):
        questions = (("which photograph?", seen.own_source), ("whose hand?", seen.other_pictures))
        rows += [[who, asked, *_rates(rates)] for asked, rates in questions if rates is not None]
    eers = ", ".join(
        f"{who} {100 * seen.originals_eer:.1f} %"
        for who, seen in (("not adapted", found.before), ("adapted", found.after))
        if seen.originals_eer is not None
    )
    note = (
        f"A recogniser trained on originals and results of {found.attackers} hands, for "
        f"{found.victims} others; 95 % of resampled victims. EER 50 %: it guesses. On what it was "
        f"trained on: EER {100 * found.trained_eer:.1f} %; among originals: {eers or '–'}. A lower "
        "bound: another attacker may find more."
    )
    columns = ["recogniser", "question", "EER", "rank 1", "by chance", "TAR at FAR 1 %"]
    return Table("Attack", columns, rows, note, "llrrrr")


def _rates(found: AttackRates) -> list[Cell]:
    tar = None
    if found.tar is not None:
        tar = Rate(found.tar, *(found.tar_interval or (None, None)))
    return [
        Rate(found.eer, *found.eer_interval), Rate(found.rank1, *found.rank1_interval),
        Rate(found.chance), tar,
    ]  # fmt: skip


def _attack_json(found: Attack | None) -> Any:
    if found is None:
        return None
    counts = {name: getattr(found, name) for name in ("trained_eer", "attackers", "victims")}
    return finite({"before": asdict(found.before), "after": asdict(found.after), **counts})


def _one_of_each(identities: dict[str, str]) -> list[str]:
    """Photographs: the first of each identity, then the second of each, and so on."""
    times: dict[str, int] = {}
    placed = []
    for source, identity in identities.items():
        times[identity] = times.get(identity, 0) + 1
        placed.append((times[identity], identity, source))
    return [source for _, _, source in sorted(placed)]
