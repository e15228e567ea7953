"""What the student learns from the teacher (Shao et al. 2020, §3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palmforge.losses.reduction import Reduction, reduce_sum, row_norms, widen


def code_distillation_loss(
    student_codes: Tensor, teacher_codes: Tensor, reduction: Reduction = "sum"
) -> Tensor:
    """Eq. 6, ‖b_T − b_S‖₂ of each image, on tanh outputs.

    Args:
        student_codes: `[N, B]`.
        teacher_codes: `[N, B]`; no gradient flows into them.
        reduction: `"sum"` is the paper's; `"mean"` divides by N.

    Returns:
        Scalar.

    Raises:
        ValueError: If the two have different numbers of bits.
    """
    if student_codes.shape != teacher_codes.shape:
        raise ValueError(
            f"student codes {tuple(student_codes.shape)} and teacher codes "
            f"{tuple(teacher_codes.shape)} must have the same shape"
        )
    difference = widen(student_codes) - widen(teacher_codes.detach())
    return reduce_sum(row_norms(difference).sum(), student_codes.shape[0], reduction)


def soft_target_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 5.0,
    scale_by_t2: bool = False,
) -> Tensor:
    """L_T of Eqs. 7 and 8: cross-entropy between softened classes (Eq. 5), mean over images.

    −Σ_c softmax(teacher / T)_c · log softmax(student / T)_c. Its least value is the entropy of the
    teacher's targets, not 0.

    Args:
        student_logits: `[N, C]`.
        teacher_logits: `[N, C]`; no gradient flows into them.
        temperature: T > 0.
        scale_by_t2: Multiply by T², as Hinton et al. 2015 do to keep gradients comparable over T.
            The paper does not.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes differ or T is not positive.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)} must have the same classes"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    targets = torch.softmax(widen(teacher_logits.detach()) / temperature, dim=1)
    loss = cross_entropy(widen(student_logits) / temperature, targets)
    return loss * temperature**2 if scale_by_t2 else loss
