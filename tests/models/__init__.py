"""A model of the protocol, pure and small, every state of which is looked at.

One job, its row, its entries, its events, a few workers, the API, maintenance, and faults within
bounds. One move of the model is one statement of Postgres, one command or script of Redis, or one
fault: nothing that others could see happens between two moves.

What the model takes together, and why nothing is lost by it:

- The two job streams are one, whose entries are delivered in any order. Its group begins at 0
  whenever it is made again, so that an entry is undelivered until it is delivered.
- Time has no length. A lease can be over, and an entry idle for long, as soon as nobody renews
  them: their worker was killed, is paused, or does not know that it has them. Who is awake does in
  time what has a time, or is slow, which is a fault. What a worker does too late, it does after a
  pause; what it does before it is resumed, it might as well have done before it was paused.
- A model call is finished and written down in one move, since nobody sees what is between.
- Events are appended at a fixed place in the order of an attempt. In the service that happens
  beside its calls, but nobody looks at the events and at the row together.
- A ledger row is there while it is open; how it was closed decides nothing.
- Whatever a guard will refuse, because attempts only grow, is left out (`canonical`).

Not in it: several jobs (batches, suspects, the fair queue), outages of Postgres that outlast a
lease, the self-fencing of workers (it saves money, and nothing rests on it), readers of events,
purge and pruning.
"""
