"""Statistics over clips: intervals, paired comparisons, Frechet distances."""
