-------------------------------- MODULE Clock --------------------------------
(***************************************************************************)
(* Hybrid logical clocks (clock.md; Kulkarni et al. 2014).                 *)
(*                                                                         *)
(* Two nodes. Each has a wall clock that anybody may move on or set back,  *)
(* independently of the other, and a hybrid logical clock. A timestamp is  *)
(* one number, milliseconds * Radix + counter, so that an exhausted        *)
(* counter carries into the milliseconds; the Radix is small here, so that *)
(* it does. A message that was sent can be received at any time, any       *)
(* number of times, or never.                                              *)
(*                                                                         *)
(* Left out: threads, the file that keeps a clock's ceiling over restarts, *)
(* the end of the range.                                                   *)
(***************************************************************************)
EXTENDS Integers, FiniteSets

CONSTANTS
  Radix,        \* how many events fit in a millisecond
  MaxDrift,     \* in milliseconds
  MaxWall, Backs, Events,  \* the last wall reading; how often walls step back, in all; how many events, at each node
  START,        \* a clock stands at -1 before its first event, not at 0
  STEP,         \* an event's timestamp is above the last one, not only no lower
  NEVER_BACK,   \* the wall is taken only where it is ahead
  WALL,         \* and there, it is taken
  RECEIVE,      \* a receiver steps over the message's timestamp, too
  CARRY,        \* the successor of a millisecond's last timestamp is the next millisecond's first
  DRIFT_CHECK   \* a timestamp more than MaxDrift ahead of the receiver's wall is refused, and changes nothing

Nodes == 0..1

VARIABLES
  wall,    \* wall[n]: what the wall clock says
  high,    \* high[n]: the most it has said
  backs,   \* how often a wall clock was set back
  last,    \* last[n]: the last timestamp made
  chain,   \* chain[n]: how many events of the same millisecond there are in the longest chain of causes that ends in n's last event
  done,    \* done[n]: how many events there were at n
  sent,    \* the messages: <<sender, timestamp, chain>>
  broken   \* what some event has broken

vars == <<wall, high, backs, last, chain, done, sent, broken>>

Max(a, b) == IF a >= b THEN a ELSE b
Ms(ts) == IF ts < 0 THEN -1 ELSE ts \div Radix
Counter(ts) == ts % Radix

Init ==
  /\ wall = [n \in Nodes |-> 0] /\ high = wall /\ backs = 0
  /\ last = [n \in Nodes |-> IF START THEN -1 ELSE 0]
  /\ chain = [n \in Nodes |-> 0] /\ done = [n \in Nodes |-> 0]
  /\ sent = {} /\ broken = {}

Successor(ts) == IF CARRY \/ (ts + 1) % Radix # 0 THEN ts + 1 ELSE ts + 1 - Radix

\* The timestamp of n's next event, which receives the timestamps in `remote` (one, or none).
Stamped(n, remote) ==
  LET now   == wall[n] * Radix
      mine  == IF STEP THEN Successor(last[n]) ELSE last[n]
      least == IF RECEIVE /\ remote # {} THEN Max(mine, Successor(CHOOSE ts \in remote : TRUE)) ELSE mine
  IN IF ~NEVER_BACK /\ wall[n] # Ms(last[n]) THEN now
     ELSE IF WALL THEN Max(least, now) ELSE least

\* An event at n. `message` has the message that it receives, if any.
Event(n, message) ==
  LET ts    == Stamped(n, {m[2] : m \in message})
      own   == IF done[n] > 0 /\ Ms(last[n]) = Ms(ts) THEN chain[n] ELSE 0
      other == {m[3] : m \in {m \in message : Ms(m[2]) = Ms(ts)}}
      long  == 1 + (IF other = {} THEN own ELSE Max(own, CHOOSE c \in other : TRUE))
  IN /\ done[n] < Events
     /\ last'   = [last EXCEPT ![n] = ts]
     /\ chain'  = [chain EXCEPT ![n] = long]
     /\ done'   = [done EXCEPT ![n] = @ + 1]
     /\ sent'   = IF message = {} THEN sent \cup {<<n, ts, long>>} ELSE sent
     /\ broken' = broken
          \cup (IF done[n] > 0 /\ ts <= last[n] THEN {"StrictIncrease"} ELSE {})
          \cup (IF \E m \in message : ts <= m[2] THEN {"ReceiveDominance"} ELSE {})
          \cup (IF Ms(ts) < wall[n] THEN {"NotBelowWall"} ELSE {})
          \cup (IF Counter(ts) > long - 1 THEN {"CounterCounts"} ELSE {})
     /\ UNCHANGED <<wall, high, backs>>

Send(n) == Event(n, {})

Receive(n, m) ==
  /\ m[1] # n
  /\ DRIFT_CHECK => Ms(m[2]) <= wall[n] + MaxDrift
  /\ Event(n, {m})

Advance(n) ==
  /\ wall[n] < MaxWall
  /\ wall' = [wall EXCEPT ![n] = @ + 1]
  /\ high' = [high EXCEPT ![n] = Max(@, wall[n] + 1)]
  /\ UNCHANGED <<backs, last, chain, done, sent, broken>>

Back(n, to) ==
  /\ backs < Backs /\ to < wall[n]
  /\ wall' = [wall EXCEPT ![n] = to]
  /\ backs' = backs + 1
  /\ UNCHANGED <<high, last, chain, done, sent, broken>>

Next == \E n \in Nodes :
  \/ Advance(n)
  \/ \E to \in 0..MaxWall : Back(n, to)
  \/ Send(n)
  \/ \E m \in sent : Receive(n, m)

Spec == Init /\ [][Next]_vars

StrictIncrease   == "StrictIncrease" \notin broken
ReceiveDominance == "ReceiveDominance" \notin broken
NotBelowWall     == "NotBelowWall" \notin broken

\* A counter is at most the number of events before it, in one chain of causes, that have the same milliseconds.
CounterCounts == "CounterCounts" \notin broken

\* What others say moves a clock no further than MaxDrift past its own wall's highest reading; beyond that it only counts its own events.
BoundedDrift == \A n \in Nodes : last[n] <= (high[n] + MaxDrift) * Radix + (Radix - 1) + done[n]
=============================================================================
