"""Protocols as they are typed, on eight rendered palms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from palmforge.errors import CheckpointError, ConfigError, DataError
from palmforge.modules.recognizer import MarginRecognizer

# Six people, rendered as ROIs at once.
SIX_PEOPLE = [
    "--data.root=synthetic", "--data.synthetic.what=rois", "--data.synthetic.size=96",
    "--data.synthetic.num_identities=12", "--data.synthetic.images_per_identity=3",
    "--data.synthetic.domains=[IF]", "--fractions=[0.2,0.4,0.4]",
]  # fmt: skip
CONFIGS = sorted((ROOT / "configs" / "evaluation").glob("*.yaml"))


@pytest.fixture
def evaluate(cli, palms_root, tmp_path):
    def run(*settings: str, out: str = "out") -> dict:
        cli(
            "evaluate", f"--data.root={palms_root}", "--intervals=20", "--data.roi.size=64",
            f"--data.cache_dir={Path(palms_root).parent / 'roi_cache'}", "--data.num_workers=1",
            f"--out={tmp_path / out}", "--recogniser=competitive-code",
            "--fractions=[0.25,0.25,0.5]", *settings,
        )  # fmt: skip
        return json.loads((tmp_path / out / "results.json").read_text())

    return run


def _margin_checkpoint(path: Path, names: list[str]) -> str:
    torch.manual_seed(0)
    arguments = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    module = MarginRecognizer(names, 64, embedding_dim=24, backbone_args=arguments)
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_is_complete(path, cli, capsys):
    with pytest.raises(SystemExit) as stop:
        cli("evaluate", f"--config={path}", "--print_config")
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["protocol"] == path.stem


def test_open_set_has_intervals_fixed_thresholds_and_no_palm_unless_asked(evaluate, tmp_path):
    results = evaluate()
    row = results["verification"][0]
    assert row["eer_low"] <= row["eer"] <= row["eer_high"]
    assert row["eer"] < 0.2  # Competitive Code knows rendered palms that are cut well
    assert row["num_genuine"] == 4 * 14 * 13 / 2
    assert "tar@far=1e-6" in row["refused"]
    assert {r["aim"] for r in results["fixed_thresholds"]} >= {"EER", "FAR 0.1"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image" not in page
    assert "rendered" not in page  # a directory of palms: nobody knows whose they are
    evaluate("--images=true", out="shown")
    assert "data:image/jpeg" in (tmp_path / "shown" / "report.html").read_text()


def test_stored_scores_give_the_same_figures(evaluate, tmp_path):
    for protocol in ("open_set", "identification", "cross_domain"):
        data = SIX_PEOPLE if protocol == "identification" else []
        first = evaluate(f"--protocol={protocol}", "--save_scores=true", *data, out=protocol)
        again = evaluate(
            f"--protocol={protocol}", f"--scores={tmp_path / protocol / 'scores'}", out="again"
        )
        first.pop("provenance"), again.pop("provenance")
        assert first == again


def test_identification_finds_the_enrolled_and_counts_the_others(evaluate):
    results = evaluate("--protocol=identification", "--fpirs=[0.2,0.01]", *SIX_PEOPLE)
    row, finer = results["identification"]
    assert row["mated"] == 2 * 2 and row["nonmated"] == 2 * 3  # one person each
    assert row["rank1"] > 0.7 and 0 <= row["tpir"] <= row["rank1"]
    assert "needs at least 100" in finer["refused"] and "tpir" not in finer


def test_the_matrix_takes_a_recogniser_for_each_enrolled_domain(evaluate, tmp_path):
    for domain in ("IF", "IN"):
        _margin_checkpoint(tmp_path / "runs" / domain / "last.ckpt", ["x", "y"])
    path = tmp_path / "runs" / "{domain}" / "last.ckpt"
    results = evaluate("--protocol=cross_domain", f"--recogniser={path}")
    assert [row["part"] for row in results["verification"]] == [
        "IF → IF", "IF → IN", "IN → IF", "IN → IN"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="cross_domain"):
        evaluate(f"--recogniser={path}")


def test_closed_set_has_both_figures_of_each_domain(evaluate):
    rows = evaluate("--protocol=closed_set")["verification"]
    assert [row["part"] for row in rows] == ["IF", "IN"]
    assert all(row["num_genuine"] == 8 and row["rank1"] > 0.8 for row in rows)


def test_another_database_is_judged_with_the_thresholds_of_the_first(evaluate, palms_root):
    first = ["--validation.root", palms_root, "--validation.domains=[IN]"]
    results = evaluate(
        "--protocol=cross_database", "--data.domains=[IF]", *first, "--validation.roi.size=64"
    )
    assert results["verification"][0]["num_genuine"] == 8 * 7 * 6 / 2
    assert results["fixed_thresholds"]
    with pytest.raises(ConfigError, match="cross_database needs"):
        evaluate("--protocol=cross_database")
    same = f"{palms_root}/../{Path(palms_root).name}"  # spelled in another way
    with pytest.raises(DataError, match="are pictures of validation too"):
        evaluate("--protocol=cross_database", f"--validation.root={same}")


def test_palms_that_were_trained_on_are_refused(evaluate, palms_root, tmp_path):
    from palmforge.data.layouts import scan

    names = sorted({record.identity for record in scan(palms_root).records})
    checkpoint = _margin_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt", names)
    with pytest.raises(DataError, match="was trained on"):
        evaluate(f"--recogniser={checkpoint}")
    evaluate("--protocol=closed_set", f"--recogniser={checkpoint}")  # tests known palms
    # A run on other data had other palms, whatever their names.
    config = {"data": {"init_args": {"root": "/elsewhere"}}}
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    evaluate(f"--recogniser={checkpoint}")
    # Nor may thresholds be fixed on palms that were trained on.
    config["data"]["init_args"]["root"] = palms_root
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match="was trained on"):
        evaluate(
            "--protocol=cross_database", f"--validation.root={palms_root}", *SIX_PEOPLE,
            f"--recogniser={checkpoint}", "--fractions=[0.25,0.25,0.5]",
        )  # fmt: skip


def test_bad_input_is_told_before_anything_is_embedded(evaluate, tmp_path):
    with pytest.raises(CheckpointError, match="no recogniser 'nobody'"):
        evaluate("--recogniser=nobody")
    with pytest.raises(CheckpointError, match="no recogniser 'nobody'"):
        evaluate("--recogniser=[mtcc,nobody]", "--data.root=/nowhere")
    with pytest.raises(DataError, match="holds none"):
        evaluate(f"--scores={tmp_path}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--fars=[0.1,2]", "fars: 2 is not a rate"),
        ("--fpirs=[0]", "fpirs: 0 is not a rate"),
        ("--intervals=-1", "intervals: must be 0 or more"),
        ("--gallery_images=0", "gallery_images: must be 1 or more"),
        ("--split_seed=-1", "split_seed: must be 0 or more"),
        ("--recogniser=[]", "recogniser: name one"),
        ("--recogniser=[mtcc,mtcc]", "mtcc is there twice"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(evaluate, setting, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(setting)


def test_scores_are_read_as_what_they_are_of(evaluate, palms_root, tmp_path):
    first = evaluate("--save_scores=true", out="kept")
    again = evaluate(f"--scores={tmp_path / 'kept'}", out="again")  # the folder of the report
    assert first["verification"] == again["verification"]
    told = (tmp_path / "again" / "report.md").read_text()
    assert f"{palms_root}: " in told and "Distances read from" in told
    assert "recogniser: synthetic-only" not in told and "split_seed" not in told
    with pytest.raises(ConfigError, match="add --protocol open_set"):
        evaluate("--protocol=closed_set", f"--scores={tmp_path / 'kept'}")
    with pytest.raises(ConfigError, match="no pictures"):
        evaluate("--images=true", f"--scores={tmp_path / 'kept'}")
    evaluate("--save_scores=true", out="kept")  # the same again
    with pytest.raises(ConfigError, match="other recognisers"):
        evaluate("--save_scores=true", "--recogniser=mtcc", out="kept")
    about = next((tmp_path / "kept" / "scores").glob("*/recogniser.json"))
    about.write_text('{"recogniser": "mtcc"}')
    with pytest.raises(DataError, match=r"recogniser\.json: not what"):
        evaluate(f"--scores={tmp_path / 'kept'}")


def test_the_tracker_gets_tables_but_no_palm(evaluate, tmp_path):
    evaluate("--wandb_project=test", "--images=false")
    files = list((tmp_path / "out" / "wandb").rglob("*.table.json"))
    assert files and not list((tmp_path / "out" / "wandb").rglob("*.jpg"))
