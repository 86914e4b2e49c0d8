"""Self-contained HTML pages: report, explorer and thumbnails."""
