"""Few-step students: phased consistency distillation of any model."""
