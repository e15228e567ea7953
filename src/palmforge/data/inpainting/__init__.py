"""Pictures of hands with a hole in them, and what was in it: what exemplar inpainting learns on."""
