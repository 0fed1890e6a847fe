"""The few-shot protocol: how well methods predict tasks that none was trained on, from few rows of each."""
