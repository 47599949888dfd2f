"""Whole splits measured with a trained run."""
