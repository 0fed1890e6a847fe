"""A run as one page: what was compared, what it says, and how to make it again."""
