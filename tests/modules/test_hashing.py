"""The two modules against the paper: which loss moves which weights, what is frozen, saved."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from palmforge.errors import CheckpointError, ConfigError
from palmforge.losses.distillation import code_distillation_loss, soft_target_loss
from palmforge.losses.hashing import pairwise_hash_loss, quantization_loss
from palmforge.modules.hashing_student import HashingStudent
from palmforge.modules.hashing_teacher import HashingTeacher, load_teacher

NAMES = ["L_001", "L_002", "R_001"]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8, generator=generator),
        "label": torch.tensor([0, 0, 1, 1, 2, 2]),
        "index": torch.arange(6),
        "role": torch.zeros(6, dtype=torch.long),
        "key": [f"picture {i}" for i in range(6)],
    }


@pytest.fixture
def step(monkeypatch):
    """Runs a training step without a trainer; returns the loss and its logged terms."""

    def run(module, batch):
        logged = {}
        monkeypatch.setattr(module, "log_losses", logged.update)
        return module.training_step(batch, 0), logged

    return run


def _teacher(**settings) -> HashingTeacher:
    return HashingTeacher(NAMES, image_size=64, width=0.0625, norm="group", dropout=0.0, **settings)


@pytest.fixture
def teacher_ckpt(tmp_path):
    torch.manual_seed(1)
    teacher = _teacher()
    checkpoint = {"state_dict": teacher.state_dict()}
    teacher.on_save_checkpoint(checkpoint)
    path = tmp_path / "teacher.ckpt"
    torch.save(checkpoint, path)
    return str(path)


def _moved(module, loss) -> set[str]:
    """The parts of the network that a loss has a gradient in."""
    module.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        name.split(".")[1]
        for name, p in module.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }


def test_teacher_loss_is_equation_3_and_a_softened_cross_entropy(batch, step):
    module = _teacher(margin=100.0, quantization_weight=0.3, reduction="sum")
    total, terms = step(module, batch)
    out = module(module.images(batch))
    expected = (
        pairwise_hash_loss(out.codes, batch["label"], 100.0, "sum")
        + 0.3 * quantization_loss(out.codes, "sum")
        + cross_entropy(out.logits / 20, batch["label"])
    )
    torch.testing.assert_close(total, expected)
    assert _moved(module, terms["class_loss"]) == {"classifier"}
    assert _moved(module, terms["hash_loss"]) == {"blocks", "full", "hash_layer"}


def test_classification_objective_trains_the_whole_network(batch, step):
    module = _teacher(objective="classification", temperature=1.0)
    total, terms = step(module, batch)
    assert terms.keys() == {"class_loss"}
    assert _moved(module, total) == {"blocks", "full", "classifier"}


def test_student_alone_has_no_distillation_terms(batch, step):
    module = HashingStudent(NAMES, image_size=64)
    _, terms = step(module, batch)
    assert terms.keys() == {"hash_loss", "quantization_loss", "class_loss"}
    assert _moved(module, terms["class_loss"]) == {"classifier"}


def test_distilled_student_is_equations_7_and_8(batch, step, teacher_ckpt):
    module = HashingStudent(NAMES, image_size=64, teacher_ckpt=teacher_ckpt)
    module.load_pretrained(resuming=False)
    total, _ = step(module, batch)
    out, taught = module(module.images(batch)), module.teacher(module.images(batch))
    soft = soft_target_loss(out.logits, taught.logits, 5.0)
    expected = (
        pairwise_hash_loss(out.codes, batch["label"], 180.0, "mean")
        + 0.5 * quantization_loss(out.codes, "mean")
        + 5 * code_distillation_loss(out.codes, taught.codes, "mean")
        + 10 * soft
        + 0.2 * cross_entropy(out.logits, batch["label"])
        + 0.8 * soft
    )
    torch.testing.assert_close(total, expected)


def test_eq_8_moves_the_network_and_eq_7_the_head_alone(batch, step, teacher_ckpt):
    module = HashingStudent(NAMES, image_size=64, teacher_ckpt=teacher_ckpt)
    module.load_pretrained(resuming=False)
    _, terms = step(module, batch)
    trunk = {"convolutions", "full3", "full4"}
    assert _moved(module, terms["soft_target_loss"]) == trunk
    assert _moved(module, terms["code_loss"]) == trunk | {"hash_layer"}
    assert _moved(module, terms["class_loss"]) == {"classifier"}
    assert not any(p.requires_grad for p in module.teacher.parameters())


def test_a_teacher_of_other_input_size_sees_resized_pictures(batch, step, tmp_path):
    teacher = HashingTeacher(NAMES, image_size=96, width=0.0625, norm="group")
    checkpoint = {"state_dict": teacher.state_dict()}
    teacher.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "t.ckpt")
    module = HashingStudent(NAMES, image_size=64, teacher_ckpt=str(tmp_path / "t.ckpt"))
    module.load_pretrained(resuming=False)
    total, _ = step(module, batch)
    assert total.isfinite()


def test_a_teacher_of_other_identities_is_refused(teacher_ckpt):
    module = HashingStudent(["L_001", "L_002", "R_009"], image_size=64, teacher_ckpt=teacher_ckpt)
    with pytest.raises(ConfigError, match=r"model\.teacher_ckpt.*not the same"):
        module.load_pretrained(resuming=False)


def test_a_teacher_of_other_code_length_is_refused(teacher_ckpt):
    module = HashingStudent(NAMES, num_bits=64, image_size=64, teacher_ckpt=teacher_ckpt)
    with pytest.raises(ConfigError, match=r"model\.num_bits"):
        module.load_pretrained(resuming=False)


def test_missing_foreign_and_unsafe_teachers_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="Train a teacher first"):
        load_teacher(str(tmp_path / "none.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of HashingTeacher"):
        load_teacher(str(tmp_path / "foreign.ckpt"))
    torch.save({"code": pytest.raises}, tmp_path / "pickle.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_teacher(str(tmp_path / "pickle.ckpt"))


def test_a_student_checkpoint_leaves_the_teacher_out_and_loads_strictly(teacher_ckpt):
    module = HashingStudent(NAMES, image_size=64, teacher_ckpt=teacher_ckpt)
    module.load_pretrained(resuming=False)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert not any(name.startswith("teacher.") for name in checkpoint["state_dict"])
    for teacher in (True, False):
        other = HashingStudent(NAMES, image_size=64, teacher_ckpt=teacher_ckpt)
        if teacher:
            other.load_pretrained(resuming=True)
        content = {**checkpoint, "state_dict": dict(checkpoint["state_dict"])}
        other.on_load_checkpoint(content)
        other.load_state_dict(content["state_dict"], strict=True)


def test_frozen_blocks_have_no_gradient_no_optimizer_state_and_stay_in_eval():
    module = _teacher(weights=None, frozen_blocks=4)
    module.train()
    frozen = module.network.blocks[:4]
    assert not any(m.training for block in frozen for m in block.modules())
    trained = {id(p) for p in module.parameters() if p.requires_grad}
    assert not any(id(p) in trained for p in frozen.parameters())
    assert all(m.training for m in module.network.blocks[4].modules())


def test_pretrained_weights_freeze_four_blocks_unless_asked_otherwise():
    embedded = {"width": 0.25, "norm": "group", "normalization": "image", "image_size": 64}
    assert HashingTeacher(NAMES, weights="SYNTHETIC_V1", **embedded).network.num_frozen == 4
    assert HashingTeacher(NAMES, weights=None, **embedded).network.num_frozen == 0
    open_ = HashingTeacher(NAMES, weights="SYNTHETIC_V1", frozen_blocks=0, **embedded)
    assert open_.network.num_frozen == 0
    before = open_.network.blocks[0][0].weight.clone()
    open_.load_pretrained(resuming=False)
    assert not torch.equal(before, open_.network.blocks[0][0].weight)


def test_resuming_does_not_need_the_pretrained_file():
    module = HashingTeacher(NAMES, weights="/no/such/file.pth", image_size=64)
    module.load_pretrained(resuming=True)
    with pytest.raises(CheckpointError, match=r"model\.weights: no file"):
        module.load_pretrained(resuming=False)


def test_the_networks_run_in_bf16_and_channels_last(batch, step):
    module = _teacher(channels_last=True)
    module.configure_model()
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = step(module, batch)
    total.backward()
    assert total.isfinite() and total.dtype == torch.float32
    assert module.images(batch).is_contiguous(memory_format=torch.channels_last)
