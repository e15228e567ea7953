"""1:N search: a gallery of enrolled palms, on disk and in memory.

Example:
    >>> from palmforge.search import Gallery
    >>> gallery = Gallery.build(codes, identities)        # doctest: +SKIP
    >>> gallery.search(probes, k=5).identities            # doctest: +SKIP
"""

from palmforge.search.calibration import Calibration
from palmforge.search.gallery import Gallery, Hits
from palmforge.search.index import IndexSettings

__all__ = ["Calibration", "Gallery", "Hits", "IndexSettings"]
