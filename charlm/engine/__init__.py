"""Writes text with a model's weights, fast: it knows the models, and they know nothing of it."""
