"""A model of the protocol, pure and small, every state of which is looked at.

One job, its row, its entries, its events, a few workers, the API, maintenance, and faults within
bounds. A step of the model is one statement of Postgres, one command or script of Redis, or one
fault, because nothing else can come between two steps of a process that others could see.

What the model takes together, and why nothing is lost by it:

- The two job streams are one, whose entries are delivered in any order.
- Time has no length. A lease can be over, and an entry idle for long, as soon as nobody is there
  who renews them: their worker was killed, is paused, or does not know that it has them. A worker
  that is awake renews in time; whatever it does too late it does after a pause.
- A model call and the writing down of its reply are one step, like a question to the agent and
  its answer: nobody else sees anything in between.
- A ledger row is there while it is open; what was booked is never looked at again.
- The group begins at 0 whenever it is created again, so an entry is undelivered until it is
  delivered.

Not in it: several jobs (batches, suspects, the fair queue), outages of Postgres, readers of events,
purge and pruning.
"""
