"""What an attention model can be made of: the choices of the lecture, and those of a GPT of today."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from charlm.errors import CharlmError

CHOICES: dict[str, tuple[Any, ...]] = {
    "projection": (False, True),
    "mlp": ("none", "relu", "relu2"),
    "residual": (False, True),
    "norm": ("none", "layernorm", "rmsnorm"),
    "positions": ("none", "learned", "rotary"),
    "causal": (False, True),
    "scaled": (False, True),
    "qk_norm": (False, True),
}
"""The parts by their names in a configuration, and what each can be."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a model with heads is made of besides. The defaults are those of the lecture's last model.

    Raises `CharlmError` for what is no choice.
    """

    projection: bool = True
    """A matrix mixes what the heads of a layer bring."""
    mlp: str = "relu"
    """What each character does on its own after it has looked back; `relu2` is ReLU²."""
    residual: bool = True
    """What attention and MLP give out is added to what they read; otherwise it replaces it."""
    norm: str = "layernorm"
    """What the input of attention, of the MLP and of the logits goes through."""
    positions: str = "learned"
    """How the model knows where a character stands."""
    causal: bool = True
    """The mask: no character sees the future."""
    scaled: bool = True
    """Scores are divided by √d, the root of a head's channels."""
    qk_norm: bool = False
    """Queries and keys are normalised before they are compared."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if not any(value is choice or (type(value) is str and value == choice) for choice in choices):
                known = ", ".join(str(choice).lower() for choice in choices)
                raise CharlmError(f"{name} must be one of {known}, not {value!r:.100}.")

    @classmethod
    def of(cls, config: object) -> Parts:
        """Those that a configuration has as fields of its own."""
        return Parts(**{field.name: getattr(config, field.name) for field in fields(Parts)})
