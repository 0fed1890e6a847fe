"""A log in the raw format of Ali-CCP, drawn from a process that is known."""
