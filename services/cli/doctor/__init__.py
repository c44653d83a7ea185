"""``twitter doctor``: what about this system needs an operator, and what to do about it."""
