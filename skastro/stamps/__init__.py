"""Open, check, scale, compose and measure stacks of images."""
