"""The one exception that charlm raises for a mistake a person can correct."""


class CharlmError(ValueError):
    """A request that cannot be carried out; its message is one sentence written for the user."""


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Raises `CharlmError` unless `value` is from `least` to `most`."""
    if not least <= value <= most:
        raise CharlmError(f"{name} must be from {least} to {most}, not {value}.")
