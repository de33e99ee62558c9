"""How sure a figure is: intervals, paired comparisons, Frechet distances."""
