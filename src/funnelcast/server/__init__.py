"""Serving a bundle over HTTP: a front that speaks the protocols, and processes behind it that score."""
