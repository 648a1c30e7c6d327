"""What is measured side by side: scorefront, the proxies it is compared with, and what stands behind them.

Every module starts one kind of process on loopback ports of a `rig.Rig` and describes it as a `rig.Target`. A peer that
is not installed has no `version()`; nothing here installs, judges or prints.
"""
