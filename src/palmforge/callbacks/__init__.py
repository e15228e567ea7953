"""Lightning callbacks."""

from palmforge.callbacks.best_checkpoint import BestCheckpoint
from palmforge.callbacks.cache_latents import CacheLatents
from palmforge.callbacks.code_writer import CodeWriter
from palmforge.callbacks.deidentification_report import DeidentificationReport
from palmforge.callbacks.deidentification_writer import DeidentificationWriter
from palmforge.callbacks.ema import WeightEMA
from palmforge.callbacks.evaluation_report import EvaluationReport
from palmforge.callbacks.factory_writer import FactoryWriter
from palmforge.callbacks.generation_report import GenerationReport
from palmforge.callbacks.image_writer import ImageWriter
from palmforge.callbacks.last_checkpoint import LastCheckpoint
from palmforge.callbacks.lineage import Lineage
from palmforge.callbacks.non_finite import StopOnNonFiniteLoss
from palmforge.callbacks.palm_montage import PalmMontage
from palmforge.callbacks.run_notes import RunNotes
from palmforge.callbacks.run_report import RunReport
from palmforge.callbacks.sample_grid import SampleGrid
from palmforge.callbacks.step_seed import StepSeed
from palmforge.callbacks.stop_on_signal import StopOnSignal

__all__ = [
    "BestCheckpoint",
    "CacheLatents",
    "CodeWriter",
    "DeidentificationReport",
    "DeidentificationWriter",
    "EvaluationReport",
    "FactoryWriter",
    "GenerationReport",
    "ImageWriter",
    "LastCheckpoint",
    "Lineage",
    "PalmMontage",
    "RunNotes",
    "RunReport",
    "SampleGrid",
    "StepSeed",
    "StopOnNonFiniteLoss",
    "StopOnSignal",
    "WeightEMA",
]
