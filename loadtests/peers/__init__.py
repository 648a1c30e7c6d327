"""The targets measured side by side: scorefront, other proxies, and their backends.

Every module starts one kind of process on loopback ports of a `rig.Rig` and describes it as a `rig.Target`. A peer that
is not installed has no `version()`; nothing here installs, judges or prints.
"""
