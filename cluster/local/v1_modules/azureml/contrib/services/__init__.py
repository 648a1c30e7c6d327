"""Raw HTTP access of scoring scripts, under the names of v1. Must never be imported by scorefront."""
