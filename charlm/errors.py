"""The one exception that charlm raises for a mistake a person can correct."""


class CharlmError(ValueError):
    """A request that cannot be carried out; its message is one sentence written for the user."""
