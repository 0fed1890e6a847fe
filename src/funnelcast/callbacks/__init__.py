"""Callbacks that are ready: each writes what happens in a run to a tool that shows runs."""
