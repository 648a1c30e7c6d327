"""The dashboard: one static page that reads the REST API. It has no build step, no outside resource and no state."""
