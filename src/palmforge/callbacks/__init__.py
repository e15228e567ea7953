"""Lightning callbacks."""

from palmforge.callbacks.best_checkpoint import BestCheckpoint
from palmforge.callbacks.code_writer import CodeWriter
from palmforge.callbacks.evaluation_report import EvaluationReport
from palmforge.callbacks.last_checkpoint import LastCheckpoint
from palmforge.callbacks.non_finite import StopOnNonFiniteLoss
from palmforge.callbacks.palm_montage import PalmMontage
from palmforge.callbacks.run_report import RunReport
from palmforge.callbacks.step_seed import StepSeed

__all__ = [
    "BestCheckpoint",
    "CodeWriter",
    "EvaluationReport",
    "LastCheckpoint",
    "PalmMontage",
    "RunReport",
    "StepSeed",
    "StopOnNonFiniteLoss",
]
