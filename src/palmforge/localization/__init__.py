"""From a photograph of a hand to its key points and its ROI.

Example:
    >>> from palmforge.localization import PalmLocalizer
    >>> localizer = PalmLocalizer.from_pretrained("default")
    >>> location = localizer.locate(image)             # doctest: +SKIP
    >>> location.quad, location.handedness             # doctest: +SKIP
"""

from palmforge.localization.hand_points import HandPointsDetector, HandPointsLocalizer
from palmforge.localization.localizer import PalmLocalizer
from palmforge.localization.location import Localizer, PalmLocation

__all__ = [
    "HandPointsDetector",
    "HandPointsLocalizer",
    "Localizer",
    "PalmLocalizer",
    "PalmLocation",
]
