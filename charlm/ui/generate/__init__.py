"""The Generate tab: a prompt, a model or two, and text that appears character by character."""
