"""`python -m loadtests.bench`: throughput, cost of features and added latency, side by side, as docs/benchmarks.md.

Pure: figures, tables, chart, page. Shells: wrk, throughput, features, and the processes of `loadtests.peers`.
"""
