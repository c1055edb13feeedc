------------------------------- MODULE Waiting -------------------------------
(***************************************************************************)
(* Whoever waits at an endpoint is woken once it has what they need        *)
(* (gate.md: it waits until this endpoint has that, then decides again).   *)
(*                                                                         *)
(* Threads wait in one line for one endpoint. One of them polls it for     *)
(* all: it asks, wakes whoever is covered, and asks again; the others      *)
(* sleep, each on an event of its own. Who polls and has what it needs     *)
(* leaves, and hands the polling on. A line has a lock; an event can be    *)
(* set by anybody at any time. Waiter w needs #(w + 1).                    *)
(*                                                                         *)
(* Left out: needs of several positions (a waiter watches one of them      *)
(* after the other: for the endpoint that is one), what is decided after   *)
(* waking up, how long a poll takes and how often one is made, tasks of an *)
(* event loop, which cannot be interrupted between two awaits: their       *)
(* poller is a task that goes on while anybody waits.                      *)
(***************************************************************************)
EXTENDS Integers, FiniteSets

CONSTANTS
  Waiters, Failures,  \* how many there are, and whether the endpoint may fail
  ONE_STEP,   \* who comes looks whether it is covered, and polled for, and takes its place under one lock; FALSE: looks first
  HANDS_ON,   \* who polls and leaves lets another one poll
  DRAINS,     \* when the endpoint has failed, all are woken
  LOOKS_LAST  \* who is woken clears its event, then looks whether it waits; FALSE: looks, then clears it and sleeps

All     == 0..Waiters - 1
Need(w) == w + 1
Down    == -1

VARIABLES
  applied, down,  \* the endpoint
  known,    \* what this process knows that it has applied
  pc,       \* pc[w]: where a waiter is
  looked,   \* looked[w]: <<covered, polled>>, as it has seen that, if it looks first; else << >>
  queue,    \* those who wait in line
  polling,  \* whether somebody polls for them, by the flag...
  leads,    \* ... and who does
  event,    \* whose events are set
  heard     \* heard[w]: the answer to its poll

vars == <<applied, down, known, pc, looked, queue, polling, leads, event, heard>>

Idle == {"out", "done"}

Init ==
  /\ applied = 0 /\ down = FALSE /\ known = 0
  /\ pc = [w \in All |-> "out"] /\ looked = [w \in All |-> << >>] /\ heard = [w \in All |-> 0]
  /\ queue = {} /\ polling = FALSE /\ leads = {} /\ event = {}

\* Under the lock.
Enter(w, covered, polled) ==
  /\ looked' = [looked EXCEPT ![w] = << >>]
  /\ IF covered THEN pc' = [pc EXCEPT ![w] = "done"] /\ UNCHANGED <<queue, polling, leads>>
     ELSE /\ pc'      = [pc EXCEPT ![w] = "top"]
          /\ queue'   = queue \cup {w}
          /\ leads'   = IF polled THEN leads ELSE leads \cup {w}
          /\ polling' = TRUE
  /\ UNCHANGED <<applied, down, known, event, heard>>

Come(w) ==
  /\ pc[w] = "out"
  /\ IF ONE_STEP THEN Enter(w, known >= Need(w), polling)
     ELSE /\ looked' = [looked EXCEPT ![w] = <<known >= Need(w), polling>>]
          /\ pc'     = [pc EXCEPT ![w] = "looked"]
          /\ UNCHANGED <<applied, down, known, queue, polling, leads, event, heard>>

Take(w) ==
  /\ pc[w] = "looked"
  /\ Enter(w, looked[w][1], looked[w][2])

\* At the top of its loop a waiter looks whether it still waits, and whether it is to poll: then it asks.
Top(w) ==
  /\ pc[w] = "top"
  /\ IF w \in queue /\ w \in leads
     THEN /\ pc'    = [pc EXCEPT ![w] = "answered"]
          /\ heard' = [heard EXCEPT ![w] = IF down THEN Down ELSE applied]
     ELSE /\ pc'    = [pc EXCEPT ![w] = IF w \notin queue THEN "leaving" ELSE IF LOOKS_LAST THEN "asleep" ELSE "clearing"]
          /\ UNCHANGED heard
  /\ UNCHANGED <<applied, down, known, looked, queue, polling, leads, event>>

\* Who comes from now on knows it, too.
Learn(w) ==
  /\ pc[w] = "answered"
  /\ pc'    = [pc EXCEPT ![w] = "heard"]
  /\ known' = IF heard[w] > known THEN heard[w] ELSE known
  /\ UNCHANGED <<applied, down, looked, queue, polling, leads, event, heard>>

\* Under the lock.
Wake(w) ==
  LET ready == IF heard[w] = Down THEN IF DRAINS THEN queue ELSE {} ELSE {q \in queue : heard[w] >= Need(q)}
  IN /\ pc[w] = "heard"
     /\ pc'    = [pc EXCEPT ![w] = "top"]
     /\ heard' = [heard EXCEPT ![w] = 0]
     /\ queue' = queue \ ready
     /\ event' = event \cup ready
     /\ UNCHANGED <<applied, down, known, looked, polling, leads>>

Clear(w) ==
  /\ pc[w] = "clearing"
  /\ pc'    = [pc EXCEPT ![w] = "asleep"]
  /\ event' = event \ {w}
  /\ UNCHANGED <<applied, down, known, looked, queue, polling, leads, heard>>

Woken(w) ==
  /\ pc[w] = "asleep" /\ w \in event
  /\ pc'    = [pc EXCEPT ![w] = "top"]
  /\ event' = IF LOOKS_LAST THEN event \ {w} ELSE event
  /\ UNCHANGED <<applied, down, known, looked, queue, polling, leads, heard>>

\* Its time is up, or its poll has ended with an error.
GiveUp(w) ==
  /\ pc[w] \in {"top", "asleep", "answered", "heard"}
  /\ pc'    = [pc EXCEPT ![w] = "leaving"]
  /\ heard' = [heard EXCEPT ![w] = 0]
  /\ UNCHANGED <<applied, down, known, looked, queue, polling, leads, event>>

\* Under the lock. Whom the polling is handed to does not matter.
Leave(w) ==
  LET left == queue \ {w}
  IN /\ pc[w] = "leaving"
     /\ pc'    = [pc EXCEPT ![w] = "done"]
     /\ queue' = left
     /\ IF w \notin leads THEN event' = event \ {w} /\ UNCHANGED <<polling, leads>>
        ELSE IF left = {} \/ ~HANDS_ON
        THEN event' = event \ {w} /\ polling' = FALSE /\ leads' = leads \ {w}
        ELSE \E q \in left :
               /\ event' = (event \ {w}) \cup {q}
               /\ leads' = (leads \ {w}) \cup {q}
               /\ UNCHANGED polling
     /\ UNCHANGED <<applied, down, known, looked, heard>>

Advance ==
  /\ ~down /\ applied < Waiters
  /\ applied' = applied + 1
  /\ UNCHANGED <<down, known, pc, looked, queue, polling, leads, event, heard>>

Fail ==
  /\ Failures /\ ~down
  /\ down' = TRUE
  /\ UNCHANGED <<applied, known, pc, looked, queue, polling, leads, event, heard>>

Step(w) == Take(w) \/ Top(w) \/ Learn(w) \/ Wake(w) \/ Clear(w) \/ Woken(w) \/ Leave(w)

Next ==
  \/ \E w \in All : Come(w) \/ GiveUp(w) \/ Step(w)
  \/ Advance \/ Fail

Spec == Init /\ [][Next]_vars /\ WF_vars(Advance) /\ \A w \in All : WF_vars(Step(w))

\* Whoever waits in line has somebody who polls for them, and one is enough.
SomebodyPolls == queue # {} => leads # {}
OnePolls      == Cardinality(leads) <= 1

\* Under fair replication every wait ends, whether or not its time is ever up.
EveryWaitEnds == \A w \in All : []<>(pc[w] \in Idle)
==============================================================================
