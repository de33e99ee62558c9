"""Distillation of any model to a few-step student, by phased consistency."""
