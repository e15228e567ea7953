"""What one palm image is, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]

NUM_KEYPOINTS = 14


@dataclass(frozen=True, slots=True)
class PalmRecord:
    """One palm image on disk.

    Attributes:
        path: The file.
        subject: The person, as the data set names them.
        hand: `"L"`, `"R"`, or `""` where the data set does not say.
        identity: What decides genuine and impostor: (subject, hand). The left and the right palm
            of one person are two identities.
        device: The camera, in lower case, or `""`.
        illumination: `"flash"`, `"nature"`, or `""`.
        domain: Device initial and illumination initial (`"IF"`), or the data set's own word.
        keypoints: The 14 points of Shao et al. 2020 §4.1 as (x, y) pixels of the upright picture
            (pixel centres are integers, y points down), or None where they are not known.
    """

    path: str
    subject: str
    hand: str
    identity: str
    device: str = ""
    illumination: str = ""
    domain: str = ""
    keypoints: tuple[Point, ...] | None = None
