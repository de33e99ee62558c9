"""What every report shares: HTML and SVG pieces, and the style sheet."""
