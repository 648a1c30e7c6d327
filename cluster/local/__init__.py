"""The local provider: replicas as child processes on loopback ports of one Linux machine (5.3 or newer, for pidfds).

`provider.LocalProvider` is the only public class. The decisions are pure (`command`, `lifecycle`, `plan`, `limits`);
the other modules carry them out on one event loop. This folder must never leave a process behind, never decide how many
replicas there should be, and never hand a secret of the parent to a model. What a model takes for itself is another
matter: it runs as the same user, so that all models of one machine are one trust domain with their parent
(docs/one-machine.md).
"""
