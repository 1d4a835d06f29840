"""What all visits share: the models, the texts and runs under way, and what each visitor may ask for."""
