"""Every YAML in configs/ is read by what reads it in earnest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from conftest import ROOT

from palmforge.cli import PalmCLI
from palmforge.commands.study import make_plan, read_study
from palmforge.commands.study_table import load_reference
from palmforge.modules.exemplar_inpainting import PAPER

CONFIGS = ROOT / "configs"
EXPERIMENT = "configs/experiment/dhn_student.yaml"


def _names(folder: str) -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for p in (CONFIGS / folder).glob("*.yaml"))


@pytest.fixture
def instantiate(monkeypatch, tiny_data, tmp_path):
    """Runs everything of a fit but the training."""
    seen = []
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: seen.append(self))

    def run(cli, *arguments: str, by_batch: bool = False) -> PalmCLI:
        mine = [s for s in tiny_data if not (by_batch and ("per_batch" in s or "per_ident" in s))]
        cli("fit", *arguments, *mine)
        return seen[-1]

    return run


def test_every_folder_of_configs_is_covered():
    folders = {p.name for p in CONFIGS.iterdir() if p.is_dir()}
    here = {"experiment", "ablation", "trainer", "logger", "study", "reference", "data"}
    # These in tests/commands/test_evaluate.py and test_sweep_space.py.
    assert folders == here | {"evaluation", "sweep"}


FACTORY = "configs/experiment/factory.yaml"
DEIDENTIFY = "configs/experiment/deidentify.yaml"
DEIDENTIFY_TINY = "configs/experiment/deidentify_tiny.yaml"
NOT_TRAINED = {FACTORY, DEIDENTIFY, DEIDENTIFY_TINY}


@pytest.mark.parametrize("path", sorted({*_names("experiment")} - NOT_TRAINED))
def test_experiments_instantiate(instantiate, cli, path):
    wanted = yaml.safe_load((ROOT / path).read_text())
    by_batch = "batch_size" in wanted["data"]["init_args"]  # not P identities × K images
    built = instantiate(cli, f"--config={path}", by_batch=by_batch)
    if hasattr(built.model, "class_names"):
        assert built.model.class_names == built.datamodule.class_names
    assert built.config.fit.name == wanted["name"]


def test_the_factory_instantiates_with_the_weights_of_the_package(monkeypatch, cli):
    seen: list[PalmCLI] = []
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: seen.append(self))
    cli("predict", f"--config={FACTORY}", "--trainer.accelerator=cpu")
    (built,) = seen
    wanted = yaml.safe_load((ROOT / FACTORY).read_text())
    assert built.config.predict.name == wanted["name"]
    plan, told = built.datamodule.plan, wanted["data"]["init_args"]
    assert (plan.num_identities, plan.captures) == (told["num_identities"], told["captures"])
    assert list(plan.filters.lines) == told["filters"]["lines"]
    built.model.configure_model()
    assert built.model.controlnet.has_dial


def test_deidentification_instantiates_with_what_the_file_says(monkeypatch, cli):
    seen: list[PalmCLI] = []
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: seen.append(self))
    cli("predict", f"--config={DEIDENTIFY}", "--trainer.accelerator=cpu", "--data.image_size=256")
    (built,) = seen
    wanted = yaml.safe_load((ROOT / DEIDENTIFY).read_text())
    assert built.config.predict.name == wanted["name"]
    assert built.model.settings == PAPER and built.model.image_size == 256
    assert built.datamodule.preparation.seed == built.config.predict.seed_everything


@pytest.mark.parametrize("command", ["predict", "test"])
def test_the_small_deidentification_has_the_rows_of_the_papers_tables(monkeypatch, cli, command):
    seen: list[PalmCLI] = []
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: seen.append(self))
    cli(command, f"--config={DEIDENTIFY_TINY}", "--trainer.accelerator=cpu")
    (built,) = seen
    paper = yaml.safe_load((CONFIGS / "reference/deidentification_iitd.yaml").read_text())
    assert built.model.methods.keys() == paper["methods"].keys()
    assert built.model.settings == replace(PAPER, num_inference_steps=10)
    assert (built.datamodule.preparation.around, built.model.image_size) == ("palm", 128)


@pytest.mark.parametrize("path", [*_names("ablation"), *_names("logger")])
def test_layers_lie_over_an_experiment(instantiate, cli, path):
    bases = {
        "vgg16": "dhn_teacher",
        "synthetic_only": "synthetic_only",
        "similarity": "identity_controlnet_tiny",
        "paint_by_example": "paint_by_example_tiny",
    }
    base = next((base for word, base in bases.items() if word in path), "dhn_student")
    by_batch = "controlnet" in base or "paint_by" in base  # as above
    base = f"configs/experiment/{base}.yaml"
    instantiate(cli, f"--config={base}", f"--config={path}", by_batch=by_batch)


@pytest.mark.parametrize("path", _names("trainer"))
def test_trainer_presets_parse(monkeypatch, cli, tiny_data, path):
    """Parsed, not built: most want devices that this machine lacks."""
    monkeypatch.setattr(PalmCLI, "instantiate_classes", lambda self: None)
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: None)
    cli("fit", f"--config={EXPERIMENT}", f"--trainer={path}", *tiny_data)


@pytest.mark.parametrize("path", _names("data"))
def test_data_presets_instantiate(instantiate, cli, path):
    instantiate(cli, f"--config={EXPERIMENT}", f"--data={path}")


@pytest.mark.parametrize("path", _names("study"))
def test_studies_plan_their_runs(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    spec = read_study(path)
    plan = make_plan(spec)
    assert len(plan) == max(1, len(spec.domains)) * len(spec.runs)
    if spec.reference:
        assert set(load_reference(spec.reference).values) >= set(spec.runs)
