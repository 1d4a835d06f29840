"""How models learn: one loop for all, the recipes, and the losses."""
