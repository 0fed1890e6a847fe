"""A log in the raw format of Ali-CCP, drawn from a law that is known."""
