"""The Tokens tab: what the model reads."""
