"""From raw videos to prepared clips, one stage a file; `clip.ClipPreparer` runs them on one span of one video."""
