"""Numbers as the page's scripts and programs read them."""

from __future__ import annotations

import base64

from torch import Tensor


def base64_of(tensor: Tensor) -> str:
    """The numbers of a tensor, row by row and each with its low byte first, in base64."""
    return base64.b64encode(tensor.contiguous().numpy().tobytes()).decode()
