"""The documentation: pages, the configuration of the site, and what generates the reference pages."""
