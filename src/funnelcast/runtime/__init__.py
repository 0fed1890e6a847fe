"""What a process is set to: threads, flush to zero, and pauses of Python's garbage collector."""
