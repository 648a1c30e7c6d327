"""Many router workers in virtual time: seeded, exact, replayable.

The workers are real dispatchers and real sessions; the clock, the network, the supervisor, the clients and the
replicas
are models. After every step the simulation checks the promises of the protocol against the observations of the
replicas.
It must never look at a real clock, open a socket, or draw chance from anywhere but its seed.

    python -m tests.sim --seed 7 --trace        one run, every event
    python -m tests.sim --seeds 10000           many runs, on two processes
"""
