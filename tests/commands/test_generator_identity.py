"""`generator identity` with small ControlNets that nobody has trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from controlnets import ready
from generators import SIZE
from jsonargparse import auto_cli
from pictures import cut_short, save
from PIL import Image

from palmforge.cli import main
from palmforge.commands.generator_captures import Sampler, prepare_noise, settings_of
from palmforge.commands.generator_identity import asked_recognisers, identity
from palmforge.data.generation.captures import CapturePlan
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import CheckpointError, ConfigError
from palmforge.evaluation.identity import Setting

PALMS = SyntheticPalms(3, 3, ("IF",), 40, 5, "rois")
M = (-1.0, 0.0, 1.0)


def saved(folder: Path, config: dict | None = None, **settings) -> str:
    """A run's checkpoint, with the data and model settings of its config."""
    module = ready(num_inference_steps=4, **settings)
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    path = folder / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    if config is not None:
        parts = {
            "model": {"init_args": settings | config.pop("model", {})},
            "data": {"init_args": config},
        }
        (folder / "version_0" / "config.yaml").write_text(yaml.safe_dump(parts))
    return str(path)


@pytest.fixture(scope="module")
def top(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("identity")


@pytest.fixture(scope="module")
def plain(top) -> str:
    """Without a dial, and without a recogniser in its loss."""
    data = {"root": "synthetic", "synthetic": {"seed": 0}}
    return saved(top / "plain", data, control_guidance_scale=2.0)


@pytest.fixture(scope="module")
def dial(top) -> str:
    return saved(top / "dial", similarity_weight=0.05, similarity=0.5)


@pytest.fixture
def run(top, tmp_path):
    """Measures, and returns what identity.json says."""

    def measured(checkpoint: str, out: str = "out", **more) -> dict:
        settings = {
            "synthetic": PALMS, "synthetic_dir": str(top / "rendered"), "num_workers": 1,
            "cache_dir": str(top / "cache"), "num_identities": 3, "captures": 2, "intervals": 20,
            "out": str(tmp_path / out), "recogniser": "competitive-code",
        }  # fmt: skip
        identity(checkpoint, **(settings | more))
        return json.loads((tmp_path / out / "identity.json").read_text())

    return measured


def test_a_dial_is_measured_by_the_recogniser_in_the_loss_and_by_another(
    dial, run, tmp_path, capsys
):
    content = run(dial, similarities=list(M), shared_steps=[0, 2], num_inference_steps=2)
    judges = content["recognisers"]
    assert [(one["name"], one["generator_learned_from_it"]) for one in judges] == [
        ("synthetic-only", True), ("competitive-code", False),
    ]  # fmt: skip
    for one in content["dial"]:
        assert [row["asked"] for row in one["achieved"]] == list(M)
        assert [row["count"] for row in one["achieved"]] == [6, 6, 6]
        assert -1 <= one["spearman"]["value"] <= 1
    rows = [one for one in content["captures"] if one["recogniser"] == "synthetic-only"]
    settings = [one["setting"] and tuple(one["setting"].values()) for one in rows]
    assert settings == [None, (-1, 0), (0, 0), (1, 0), (0.5, 0), (0.5, 2)]
    assert rows[0]["among"]["num_genuine"] == 3  # the other two pictures of each palm
    for row in rows[1:]:
        assert row["count"] == 6 and row["picture_spread"] > 0
        assert row["among"]["num_genuine"] == 3 and row["among"]["num_impostor"] == 12
        assert row["to_references"]["num_impostor"] == 12 and "eer_low" in row["among"]
    assert any("eta=1 throughout" in remark for remark in content["remarks"])
    shown = capsys.readouterr().out
    assert "Similarity of capture and reference" in shown and "m = 0.5, K = 2" in shown

    folder = tmp_path / "out"
    assert "data:image" not in (folder / "report.html").read_text()  # palms stay in montages
    assert Image.open(folder / "captures_k2.png").size == (118 + 2 * 100, 22 + 3 * 106)
    assert Image.open(folder / "captures_dial.png").width == 118 + 3 * 100
    assert Image.open(folder / "figures" / "report-asked-and-achieved.png").width > 600
    assert (folder / "captures_k0.png").is_file()


def test_without_a_dial_and_a_recogniser_in_the_loss_captures_alone_are_measured(
    plain, run, tmp_path
):
    content = run(plain, num_inference_steps=2, intervals=0)
    assert content["dial"] == [] and not (tmp_path / "out" / "captures_dial.png").exists()
    assert [one["name"] for one in content["recognisers"]] == ["competitive-code"]
    assert [one["setting"] for one in content["captures"]] == [
        None, {"similarity": None, "shared_steps": 0},
    ]  # fmt: skip
    assert any("2 steps, eta=0" in remark for remark in content["remarks"])


def test_the_recogniser_that_it_learned_from_is_asked_first_and_is_not_enough():
    module, both = ready(), {"synthetic-only": True, "mtcc": False}
    for weight, expected in ((0.0, {"mtcc": False}), (0.1, both)):
        config = {"model": {"identity_weight": weight}, "data": {}}
        assert asked_recognisers("mtcc", module, config) == expected
    assert list(asked_recognisers("mtcc", module, None)) == list(both)  # it is not known
    for settings in ({"similarity_weight": 0.05}, {"conditions": ("embedding",)}):
        net = ready(**settings)
        assert asked_recognisers(["mtcc", "synthetic-only"], net, config | {"model": {}}) == both
    with pytest.warns(UserWarning, match="has learned from synthetic-only"):
        assert asked_recognisers("synthetic-only", net, None) == {"synthetic-only": True}
    with pytest.raises(ConfigError, match="recogniser: name one or more"):
        asked_recognisers([], net, None)


def test_settings_differ_in_nothing_else_and_batches_are_of_one_palm():
    module = ready(num_inference_steps=2, similarity_weight=0.05, eta=1.0)
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (2, 3, SIZE, SIZE), generator=random, dtype=torch.uint8)
    prompts = ["a left palm", "a right palm", "a palm, flash"]
    sampler = Sampler(module, pictures, ["a", "b"], prompts, 4, 3, seed=7)
    calls = []
    inner = module.sample

    def noted(prompts, seeds, reference, identity_seeds, *setting):
        calls.append((prompts, seeds, reference.clone(), identity_seeds))
        return inner(prompts, seeds, reference, identity_seeds, *setting)

    module.sample = noted
    made = sampler(Setting(0.5, 0))
    first, calls[:] = list(calls), []
    sampler(Setting(-1.0, 2))
    assert [len(one[0]) for one in first] == [3, 1, 3, 1]
    for one, other in zip(first, calls, strict=True):
        assert one[:2] == other[:2] and one[3] == other[3] and len(set(one[3])) == 1
        assert torch.equal(one[2], other[2]) and bool((one[2] == one[2][:1]).all())
    # As `predict` makes them: the same plan.
    load = [
        (n, lambda p=p: p.permute(1, 2, 0).numpy()) for n, p in zip("ab", pictures, strict=True)
    ]
    plan = CapturePlan(load, prompts, captures=4, batch_size=4, seed=7)
    batch = plan[1]
    theirs = inner(
        batch["prompt"], batch["seed"].tolist(), batch["reference"],
        batch["identity_seed"].tolist(), 0.5, 0,
    )  # fmt: skip
    assert int((made[4:].int() - theirs.int()).abs().max()) <= 1
    assert sampler.palms.tolist() == [0] * 4 + [1] * 4


def test_noise_is_added_where_it_is_to_be_shared_and_only_there():
    module = ready(num_inference_steps=4)
    assert prepare_noise(module, 0, None) is None and module.eta == 0
    assert "eta=1 throughout" in prepare_noise(module, 4, None) and module.eta == 1
    assert prepare_noise(module, 2, 0.5) is None and module.eta == 0.5
    with pytest.raises(ConfigError, match="eta=0 adds no noise that could be shared"):
        prepare_noise(module, 2, 0.0)
    for eta in (None, 1.0):
        with pytest.raises(ConfigError, match="shared_steps: 5 is not in 0 … 4"):
            prepare_noise(ready(num_inference_steps=4), 5, eta)
    never = ready(num_inference_steps=4, scheduler="DPMSolverMultistepScheduler")
    with pytest.raises(ConfigError, match="DPMSolverMultistepScheduler"):
        prepare_noise(never, 2, None)


def test_settings_that_cannot_be_are_refused():
    plain, dial = ready(), ready(similarity_weight=0.05, similarity=0.25)
    assert settings_of(plain, None, [3, 0]) == ([], [Setting(None, 0), Setting(None, 3)])
    own, noise = settings_of(dial, None, [0])
    assert [one.similarity for one in own] == [-1, -0.5, 0, 0.5, 1]
    assert noise == [Setting(0.25, 0)]
    with pytest.raises(ConfigError, match="similarities: this ControlNet has no dial"):
        settings_of(plain, [0.5], [0])


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        ({"similarities": [1.04]}, ConfigError, r"similarities: 1\.04 is not in \[-1, 1\]"),
        ({"similarities": [float("nan")]}, ConfigError, r"is not in \[-1, 1\]"),
        ({"similarities": [0.5, 0.5]}, ConfigError, "similarities: .* has a value twice"),
        ({"shared_steps": []}, ConfigError, "shared_steps: numbers >= 0"),
        ({"shared_steps": [-1, 2]}, ConfigError, "shared_steps: numbers >= 0"),
        ({"shared_steps": [1, 1]}, ConfigError, "shared_steps: .* has a value twice"),
        ({"eta": 1.5}, ConfigError, r"eta: 1\.5 is not in \[0, 1\]"),
        ({"recogniser": "nobody"}, CheckpointError, "no recogniser 'nobody'"),
        ({"recogniser": []}, ConfigError, "recogniser: name one or more"),
        (
            {"synthetic": SyntheticPalms(3, 1, ("IF",), 40, 0, "rois")}, ConfigError,
            "was trained on palms of the seed 0",
        ),
    ],
)  # fmt: skip
def test_what_no_controlnet_can_do_is_refused_before_one_is_loaded(
    plain, run, monkeypatch, settings, error, what
):
    monkeypatch.setattr(
        "palmforge.commands.generator_captures.load_controlnet", lambda *_: pytest.fail("loaded")
    )
    with pytest.raises(error, match=what):
        run(plain, **settings)


def test_what_cannot_be_measured_is_refused_before_a_capture_is_made(plain, run, top, tmp_path):
    with pytest.raises(CheckpointError, match="checkpoint: no checkpoint"):
        run(str(tmp_path / "none.ckpt"))
    with pytest.raises(CheckpointError, match="no recogniser 'nobody'"):
        run(plain, "b", recogniser=["mtcc", "nobody"])
    with pytest.raises(ConfigError, match="was trained on palms of the seed 0"):
        run(plain, "c", synthetic=SyntheticPalms(3, 1, ("IF",), 40, 0, "rois"))
    with pytest.raises(
        ConfigError, match="palms of 64 pixels are too small for a model of 96; take 120"
    ):
        run(
            saved(top / "large", image_size=96), "d",
            synthetic=SyntheticPalms(3, 1, ("IF",), 64, 5, "rois"),
        )  # fmt: skip
    for key in ("num_identities", "captures", "batch_size", "num_inference_steps"):
        with pytest.raises(ConfigError, match=f"{key}: must be"):
            run(plain, "e", **{key: 0})


def test_references_without_a_palm_are_left_out_and_one_palm_is_too_few(run, tmp_path):
    palms = tmp_path / "palms"
    trained = saved(tmp_path, {"root": str(palms)})  # and it says that these are the training's
    rng = np.random.default_rng(0)
    for name in "abc":
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        save(palms / name / "0.png", coarse.resize((40, 40), Image.Resampling.BICUBIC))
    save(palms / "Grey" / "0.png", Image.new("L", (40, 40), 90))
    tall = Image.fromarray(rng.integers(0, 256, (60, 40, 3), dtype=np.uint8))
    save(palms / "tall" / "0.png", tall)
    broken = Path(save(palms / "a_broken" / "0.png", Image.new("L", (40, 40), 90)))
    cut_short(broken)
    more = {"references": str(palms), "num_inference_steps": 1, "intervals": 0}
    content = run(trained, **more)
    assert [one["count"] for one in content["captures"]] == [6]  # three palms, one picture each
    assert any("was trained on palms of" in remark for remark in content["remarks"])
    listed = (tmp_path / "out" / "problems.csv").read_text()
    assert "one grey everywhere" in listed and "a_broken" in listed
    assert "40 × 60 pixels are no square ROI" in listed  # nothing is squeezed
    for name in "bc":
        (palms / name / "0.png").unlink()
    with pytest.raises(ConfigError, match=r"references: 1 palms in .* First left out: "):
        run(trained, "other", **more)


def test_what_is_there_is_not_overwritten(plain, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="there and not empty; name another folder"):
        run(plain)
    assert (tmp_path / "out" / "report.html").read_text() == "mine"


def test_what_is_missing_is_called_as_it_is_typed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generator", "identity"])
    assert stop.value.code == 2
    assert "the following arguments are required: --checkpoint\n" in capsys.readouterr().err


def test_the_command_line_takes_every_setting_by_name(tmp_path):
    arguments = [
        f"--checkpoint={tmp_path}/none.ckpt", "--similarities=[-1,0.5]", "--shared_steps=[0,10]",
        "--recogniser=[mtcc,ccnet]", "--num_identities=4", f"--out={tmp_path}/out",
        "--synthetic.seed=9",
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="no checkpoint"):
        auto_cli(identity, args=arguments, as_positional=False)
