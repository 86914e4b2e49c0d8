"""A whole study: its plan, data, baselines, results and folder."""
