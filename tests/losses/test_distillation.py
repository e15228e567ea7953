"""Eqs. 5 and 6 against plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from palmforge.losses.distillation import code_distillation_loss, soft_target_loss


def _pair(n: int = 4, width: int = 6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    student, teacher = torch.randn(2, n, width, generator=generator, dtype=torch.float64).to(dtype)
    return student.requires_grad_(), teacher.requires_grad_()


def _softmax(row, temperature):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def test_code_distance_by_hand_and_against_rows() -> None:
    student, teacher = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1, 1]])
    assert code_distillation_loss(student, teacher).item() == 5
    assert code_distillation_loss(student, teacher, reduction="mean").item() == 2.5
    student, teacher = _pair()
    rows = sum(math.dist(s, t) for s, t in zip(student.tolist(), teacher.tolist(), strict=True))
    assert code_distillation_loss(student, teacher).item() == pytest.approx(rows)


def test_identical_codes_cost_nothing_and_give_no_nan() -> None:
    codes = torch.ones(3, 8, requires_grad=True)
    loss = code_distillation_loss(codes, torch.ones(3, 8))
    loss.backward()
    assert loss.item() == 0
    assert (codes.grad == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 5.0, 20.0])
def test_soft_targets_against_plain_python(temperature) -> None:
    student, teacher = _pair()
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = zip(_softmax(t, temperature), _softmax(s, temperature), strict=True)
        expected -= sum(p * math.log(q) for p, q in pairs) / len(student)
    loss = soft_target_loss(student, teacher, temperature)
    assert loss.item() == pytest.approx(expected)
    scaled = soft_target_loss(student, teacher, temperature, scale_by_t2=True)
    assert scaled.item() == pytest.approx(expected * temperature**2)


def test_soft_targets_by_hand_at_the_default_temperature_of_5() -> None:
    even = torch.zeros(1, 2)
    assert soft_target_loss(even, even).item() == pytest.approx(math.log(2))
    teacher = torch.tensor([[5 * math.log(3), 0.0]])  # softmax at T = 5: 3/4, 1/4
    assert soft_target_loss(even, teacher).item() == pytest.approx(math.log(2))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert soft_target_loss(teacher, teacher).item() == pytest.approx(entropy)


def test_gradients_hold_in_float64() -> None:
    student, teacher = _pair()
    assert gradcheck(lambda s: code_distillation_loss(s, teacher.detach(), "mean"), student)
    assert gradcheck(lambda s: soft_target_loss(s, teacher.detach(), 5.0, True), student)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = _pair()
    (code_distillation_loss(student, teacher) + soft_target_loss(student, teacher)).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_bf16_autocast_computes_in_float32_and_does_not_round_the_teacher() -> None:
    student, teacher = _pair(dtype=torch.bfloat16)
    fine = teacher.detach().float() + 1e-3
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = code_distillation_loss(student, fine)
        soft = soft_target_loss(student, teacher)
    assert code.dtype == soft.dtype == torch.float32
    wide = student.detach().double()
    expected = (wide - fine.double()).norm(dim=1).sum()
    torch.testing.assert_close(code.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        soft.double(), soft_target_loss(wide, teacher.double()), rtol=1e-6, atol=0
    )


def test_one_image_and_shapes_that_do_not_fit() -> None:
    student, teacher = _pair(n=1)
    assert code_distillation_loss(student, teacher) == code_distillation_loss(
        student, teacher, reduction="mean"
    )
    with pytest.raises(ValueError, match=r"\(2, 8\) and teacher codes \(2, 16\)"):
        code_distillation_loss(torch.zeros(2, 8), torch.zeros(2, 16))
    with pytest.raises(ValueError, match="the same classes"):
        soft_target_loss(torch.zeros(2, 8), torch.zeros(2, 9))
    with pytest.raises(ValueError, match="must be positive"):
        soft_target_loss(torch.zeros(2, 8), torch.zeros(2, 8), temperature=0)
    with pytest.raises(ValueError, match="'sum' or 'mean'"):
        code_distillation_loss(student, teacher, reduction="none")
