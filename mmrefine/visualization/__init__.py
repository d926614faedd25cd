"""Looking at results: overlays, curves, report pages."""
