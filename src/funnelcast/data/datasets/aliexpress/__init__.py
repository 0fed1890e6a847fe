"""AliExpress as MTReclib publishes it."""
