"""Ali-CCP in its raw format."""
