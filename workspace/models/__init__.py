"""Registered models: records, rules, registry. The content of a model must not be read here."""
