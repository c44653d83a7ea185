"""``twitter demo``: the whole system on real input, and proof that what a reader sees is what was written."""
