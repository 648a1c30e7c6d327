"""The local provider: replicas as child processes on loopback ports of one Linux machine (5.3 or newer, for pidfds).

`local_provider.LocalProvider` is the only public class. Decisions are pure (`command`, `lifecycle`, `replacement`,
`limits`); the other modules carry them out on one event loop. This folder must never leave a process behind, never
decide on a number of replicas, and never pass a secret of the parent to a model. Models are not isolated from each
other: they run as the same user, so all models of one machine and their parent are one trust domain
(docs/one-machine.md).
"""
