"""Models, environments, artifacts and deployments, kept in one store; the Azure ML v1 protocol over them."""
