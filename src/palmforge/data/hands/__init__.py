"""Whole hands with key points: what the palm locator is trained on.

Read it in this order: `frames` (where a palm is, as a square), `records` (what is on disk),
`photometry` and `views` (one picture → one view of it), `dataset`, `datamodule`.
"""
