"""Optimizers, schedules, and which weights are decayed."""
