"""User Story Service: durable, paid-once LLM jobs on Redis Streams and Postgres.

Five floors, imports only point down:

    floor 5  __main__  cli                          which process am I
    floor 4  bootstrap > settings                   build the real objects, once
    floor 3  api | worker | maintenance | agent | streams | postgres | embedded
    floor 2  group_commit > supervision > ports : telemetry
    floor 1  domain                                 pure values and decisions
"""

__version__ = "0.1.0"
