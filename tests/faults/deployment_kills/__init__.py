"""SIGKILL of an installation in the middle of a deployment, and its next start."""
