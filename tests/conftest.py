"""All tests multiply on one thread: their layers are so narrow that a second one only waits for its turn."""

import torch

torch.set_num_threads(1)
