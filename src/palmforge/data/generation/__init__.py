"""What generators are trained on, and what they are asked for."""
