"""Guard models as judges of the answer."""
