------------------------------- MODULE Trace -------------------------------
(***************************************************************************)
(* Does a recorded run obey the rules of the gate? The run is a constant,  *)
(* a tuple of what happened, and a cursor steps over it: each step is      *)
(* possible only if the rules allow what was recorded. The "invariant"     *)
(* says that the cursor has not come to the end: violated, the run is      *)
(* accepted; not violated, the depth of the search is the number of the    *)
(* first event that breaks a rule.                                         *)
(*                                                                         *)
(* The rules are those of Gate, for any number of shards, each with any    *)
(* number of origins: a place is one origin of one shard, numbered from 1, *)
(* and a frontier a tuple with an offset for each. Sessions' tokens are    *)
(* computed, by the least that the rules demand, and joined with what was  *)
(* recorded of them, which must be no less.                                *)
(*                                                                         *)
(* Left out: histories that end (a read that no longer shows what was lost *)
(* is not accepted), and writes in doubt whose position nobody was told (a *)
(* read that shows one is not accepted). What ages out of a token, or is   *)
(* folded, must keep to these rules all the same.                          *)
(*                                                                         *)
(* TraceData is written by mirror/trace.py.                                *)
(***************************************************************************)
EXTENDS Integers, Sequences, TraceData

VARIABLES
  i,        \* the number of the next event
  token,    \* token[c]: what a session demands
  versions  \* what was committed: [who, key, at, offset, stamp, deps]

vars == <<i, token, versions>>

Max(a, b)  == IF a >= b THEN a ELSE b
Join(f, g) == IF f = << >> THEN g ELSE [p \in Places |-> Max(f[p], g[p])]
Nothing    == [p \in Places |-> 0]

\* What was not recorded is believed: a frontier, or (-1) a place of another shard than that of the watermark. An origin of the same shard
\* that a watermark does not list is at 0 there: who has not heard of it does not cover it.
AtLeast(f, g)    == IF f = << >> THEN TRUE ELSE \A p \in Places : f[p] >= g[p]
Covers(mark, f)  == \A p \in Places : mark[p] = -1 \/ mark[p] >= f[p]
Gated(e)         == Covers(e.mark, Join(e.in, token[e.who])) /\ AtLeast(e.in, token[e.who])
Visible(mark, key) == {v \in versions : v.key = key /\ v.offset <= mark[v.at]}

Init ==
  /\ i = 1
  /\ token = [c \in Sessions |-> Nothing]
  /\ versions = {}

\* A leader takes a write: it covers the writer's token, numbers what nobody has numbered, and stamps it above what it holds of the key.
Commit(e) ==
  /\ Gated(e)
  /\ \A v \in versions : v.at = e.at => v.offset < e.offset
  /\ \A v \in Visible(e.mark, e.key) : v.stamp < e.stamp
  /\ versions' = versions \cup
       {[who |-> e.who, key |-> e.key, at |-> e.at, offset |-> e.offset, stamp |-> e.stamp,
         deps |-> [Join(e.in, token[e.who]) EXCEPT ![e.at] = e.offset]]}
  /\ UNCHANGED token

\* The writer, and nobody else, learns of it: what it demands from now on covers the write, and what the write depends on.
Acknowledge(e) ==
  /\ \E v \in versions :
       /\ v.who = e.who /\ v.at = e.at /\ v.offset = e.offset
       /\ LET least == Join(token[e.who], v.deps)
          IN AtLeast(e.out, least) /\ token' = [token EXCEPT ![e.who] = Join(e.out, least)]
  /\ UNCHANGED versions

\* A read is served where the watermark covers the token. It shows of its key the newest that the watermark covers, or nothing where that
\* covers none; the session joins what that depends on. `held` FALSE: its policy promised no gate.
Read(e) ==
  /\ e.held => Gated(e)
  /\ IF e.offset = 0
     THEN /\ Visible(e.mark, e.key) = {}
          /\ AtLeast(e.out, token[e.who])
          /\ token' = [token EXCEPT ![e.who] = Join(e.out, @)]
     ELSE \E v \in Visible(e.mark, e.key) :
            /\ v.at = e.at /\ v.offset = e.offset
            /\ \A u \in Visible(e.mark, e.key) : u.stamp <= v.stamp
            /\ LET least == Join(token[e.who], v.deps)
               IN AtLeast(e.out, least) /\ token' = [token EXCEPT ![e.who] = Join(e.out, least)]
  /\ UNCHANGED versions

Next ==
  /\ i <= Len(Trace)
  /\ LET e == Trace[i]
     IN CASE e.op = "commit" -> Commit(e)
          [] e.op = "ack"    -> Acknowledge(e)
          [] e.op = "read"   -> Read(e)
  /\ i' = i + 1

Spec == Init /\ [][Next]_vars

NotAtTheEnd == i <= Len(Trace)
=============================================================================
