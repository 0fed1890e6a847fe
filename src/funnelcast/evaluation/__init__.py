"""How good predictions are: exact AUC with intervals, log-loss, calibration, per group and per step of the funnel."""
