"""A trained network as one file for a phone: written, checked against PyTorch, timed, described."""
