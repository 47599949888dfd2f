"""What a model learns: one LightningModule a task, over the one training step in `base.py`."""
