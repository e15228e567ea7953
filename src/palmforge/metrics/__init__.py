"""What a palmprint system is judged by; functions on arrays and tensors, and torchmetrics on top.

Nothing here knows files, configs or Lightning. Import from the file that holds the idea
(`palmforge.metrics.verification`, `.identification`, `.hamming`, ...): this package file imports
nothing, because torchmetrics alone costs seconds.
"""
