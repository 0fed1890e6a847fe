"""Compiled implementations of operations in `funnelcast.ops`, which alone imports this package."""
