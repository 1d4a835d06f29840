"""The Attention tab: every layer and head of a trained model, on the learner's own text."""
