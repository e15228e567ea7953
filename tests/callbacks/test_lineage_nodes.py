"""A node is told by what is in it, wherever it lies, and tells no path."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from palmforge.callbacks.lineage_models import (
    FETCHED,
    made_models,
    model_node,
    parents,
    role_of,
)
from palmforge.callbacks.lineage_nodes import (
    data_node,
    folder_node,
    inputs_of_data,
    legal_name,
    report_node,
)
from palmforge.data.datamodule import PalmDataModule
from palmforge.data.digests import checkpoint_digest
from palmforge.modules import HashingStudent, HashingTeacher, IdentityControlNet, PalmFactory


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("quickstart/IF/teacher",), "quickstart-IF-teacher"),
        (("a b:c", "report"), "a-b-c-report"),
        (("..",), "5ec1f7e7"),  # nothing legal is left of it
    ],
)
def test_names_are_what_wandb_takes(parts, name):
    from wandb.sdk.artifacts._validators import validate_artifact_name

    assert validate_artifact_name(legal_name(*parts)) == name


def test_names_that_lose_something_stay_two():
    long = "x" * 300
    assert len(legal_name(long)) <= 100
    assert legal_name(long + "1") != legal_name(long + "2")
    assert legal_name("手掌") != legal_name("掌纹")


@pytest.fixture
def palms(tmp_path):
    def make(root, sizes=(3, 4)):
        folder = tmp_path / root / "jane"
        folder.mkdir(parents=True)
        for number, size in enumerate(sizes):
            (folder / f"{number}.png").write_bytes(b"x" * size)
        return [str(path) for path in folder.iterdir()], str(folder.parent)

    return make


def test_a_copy_of_a_data_set_is_the_same_and_another_is_not(palms):
    files, root = palms("a/palms")
    node = data_node(root, files, {"images": 2})
    copied, copy = palms("b/palms")
    assert data_node(copy, copied, {}).digest == node.digest
    assert data_node(root, files[:1], {}).digest != node.digest  # a domain of it
    larger, other = palms("c/palms", sizes=(3, 5))
    assert data_node(other, larger, {}).digest != node.digest
    assert node.name == "palms"
    told = json.dumps([node.name, node.facts])
    assert root not in told and "jane" not in told


def test_a_shard_that_is_gone_has_a_digest_all_the_same(tmp_path):
    assert data_node(str(tmp_path), [str(tmp_path / "gone.png")], {}).digest


def test_a_generated_set_is_told_by_its_manifest(tmp_path):
    table = pa.table({"file": ["0/0.png", "0/1.png", "1/0.png"], "identity": [0, 0, 1]})
    pq.write_table(table, tmp_path / "manifest.parquet")
    assert folder_node(tmp_path).kind == "dataset"  # as the renderer leaves it
    (tmp_path / "generation.json").write_text("{}")
    node = folder_node(tmp_path)
    assert node.kind == "generated-set"
    assert node.digest == checkpoint_digest(tmp_path / "manifest.parquet")
    assert (node.facts["images"], node.facts["identities"]) == (3, 2)
    # Trained on as a data set, it is the same node.
    assert data_node(str(tmp_path), [], {}) == node


def test_the_roi_cache_is_told_by_data_and_settings(palms_root, tmp_path):
    from palmforge.data.roi_cache import RoiSettings

    def nodes(**settings):
        made = PalmDataModule(root=palms_root, cache_dir=str(tmp_path), **settings)
        return dict(inputs_of_data(made))

    plain = nodes()
    assert plain["data"].facts["identities"] == 8
    assert plain["rois"].facts["data"] == plain["data"].reference("data")
    assert nodes(protocol="open_set")["data"].digest == plain["data"].digest
    assert nodes(roi=RoiSettings(size=96))["rois"].digest != plain["rois"].digest
    flash = nodes(domains=["IF"])
    assert flash["data"].digest != plain["data"].digest
    assert flash["data"].facts["domains"] == ["IF"]


def test_data_of_which_only_words_are_read_is_no_parent():
    datamodule = SimpleNamespace(plan=SimpleNamespace(num_images=3))
    assert inputs_of_data(datamodule) == []
    assert inputs_of_data(None) == []


def test_photographs_that_are_repainted_are_a_data_set(palms):
    files, root = palms("photographs")
    plan = SimpleNamespace(root=root, sources=["jane/0.png", "jane/1.png"])
    ((role, node),) = inputs_of_data(SimpleNamespace(plan=plan, images=root))
    assert (role, node.name, node.facts["images"]) == ("data", "photographs", 2)
    assert node.digest == data_node(root, files, {}).digest


def _checkpoint(folder, experiment, values=0.0):
    path = folder / "version_0/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"w": torch.tensor(values)}, path)
    (folder / "version_0/config.yaml").write_text(yaml.safe_dump({"name": experiment}))
    return path


def test_a_checkpoint_has_the_name_that_its_own_run_gave_it(tmp_path):
    path = _checkpoint(tmp_path / "logs/q/teacher", "q/teacher")
    node = model_node(path, "teacher")
    ((made, aliases),) = made_models(path.parents[1], "q/teacher", {}, {})
    assert (node.name, node.digest) == (made.name, made.digest) == ("q-teacher", node.digest)
    assert aliases == ["last"]


def test_one_that_came_from_wandb_keeps_its_name(tmp_path):
    path = tmp_path / "files" / "last.ckpt"
    path.parent.mkdir()
    torch.save({}, path)
    assert model_node(path, "teacher").name == "last"
    (tmp_path / FETCHED).write_text(json.dumps({"name": "q-teacher"}))
    assert model_node(path, "teacher").name == "q-teacher"
    assert model_node(path.parent, "lora").name == "q-teacher"


def test_last_and_best_of_one_file_are_one_model_with_two_names(tmp_path):
    path = _checkpoint(tmp_path, "x")
    path.with_name("best.ckpt").write_bytes(path.read_bytes())
    ((_, aliases),) = made_models(path.parents[1], "x", {}, {"score": 1.0})
    assert aliases == ["last", "best"]
    _checkpoint(tmp_path / "other", "x", 1.0).rename(path.with_name("best.ckpt"))
    _, (best, aliases) = made_models(path.parents[1], "x", {"role": "teacher"}, {"score": 1.0})
    assert aliases == ["best"]
    assert (best.facts["role"], best.facts["score"]) == ("teacher", 1.0)


def test_a_student_names_its_teacher_only_where_it_reads_it(tmp_path):
    teacher = _checkpoint(tmp_path, "t")
    student = HashingStudent(["a", "b"], image_size=64, teacher_ckpt=str(teacher))
    ((role, node),) = parents(student, None, training=True)
    assert (role, node.name) == ("teacher", "t")
    ((role, _),) = parents(student, str(teacher), training=False)
    assert role == "checkpoint"
    assert [role for role, _ in parents(student, str(teacher), training=True)] == [
        "resumed", "teacher",
    ]  # fmt: skip
    assert role_of(student) == "distilled student"
    assert role_of(HashingStudent(["a", "b"], image_size=64)) == "student"


def test_weights_of_the_package_are_told_by_their_folder():
    teacher = HashingTeacher(
        ["a"], image_size=64, weights="SYNTHETIC_V1", width=0.25, norm="group",
        normalization="image",
    )  # fmt: skip
    ((role, node),) = parents(teacher, None, training=True)
    assert (role, node.name) == ("weights", "palmforge-vgg16_synthetic")
    assert node.facts["package"].startswith("palmforge ")
    factory = dict(parents(PalmFactory(), None, training=False))
    assert {role: node.name for role, node in factory.items()} == {
        "controlnet": "palmforge-identity_controlnet_tiny",
        "generator": "palmforge-stable_diffusion_tiny",
        "recogniser": "palmforge-recognizer_synthetic",
    }


def test_a_controlnet_names_its_base_and_its_lora(tmp_path):
    lora = tmp_path / "palm_lora"
    lora.mkdir()
    (lora / "weights.safetensors").write_bytes(b"1")
    module = IdentityControlNet("hub/base", lora=str(lora), revision="v2", image_size=64)
    found = dict(parents(module, None, training=True))
    assert set(found) == {"base", "lora"}  # no recogniser: nothing asks for one
    assert found["lora"].digest == checkpoint_digest(lora)
    assert found["base"].name == "hub-base"
    assert found["base"].facts["digest_of"] == "its name, not its weights"
    assert role_of(module) == "controlnet"


def test_a_path_that_is_not_there_is_told_without_its_folders():
    student = HashingStudent(["a"], image_size=64, teacher_ckpt="/home/jane/t.ckpt")
    ((_, node),) = parents(student, None, training=True)
    assert (node.name, node.facts["called"]) == ("t.ckpt", "t.ckpt")


def test_a_report_without_a_file_is_told_by_its_numbers(tmp_path):
    one, same = (report_node(None, "x", {"test/eer": 0.1}) for _ in range(2))
    other = report_node(None, "x", {"test/eer": 0.2})
    assert one == same and one.digest != other.digest
    assert one.name == "x-report"
    assert report_node(None, "x", {}) is None
    file = tmp_path / "results.json"
    file.write_text("{}")
    assert report_node(file, "x", {}).digest == checkpoint_digest(file)
