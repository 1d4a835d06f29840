"""The Averaging tab: from a loop to self-attention in four steps."""
