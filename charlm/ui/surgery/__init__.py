"""Surgery, on the tabs that show a model's heads: what is changed of it, and what that does."""
