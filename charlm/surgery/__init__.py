"""Changing a trained model, to see what a part of it was for. Knows nothing of services and pages."""
