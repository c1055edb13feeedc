----------------------------- MODULE Tombstones -----------------------------
(***************************************************************************)
(* A deleted key stays deleted: when the mark of a deletion may be thrown  *)
(* away, where several sites take writes (the specification: failover.md,  *)
(* on several live origins).                                               *)
(*                                                                         *)
(* One key. Each site numbers an origin of its own, in a log that the      *)
(* others apply in order; the entry with the larger stamp wins, then that  *)
(* of the larger site. A stamp is larger than anything that its site has   *)
(* seen, so stamps strictly increase along a log; its wall clock may       *)
(* take it further ahead. A site that has applied a deletion holds a       *)
(* tombstone until it collects it. An idle site whose own log stands below *)
(* a tombstone logs an entry without a key, so that nobody waits for it.   *)
(* A third site may join, by copying one of the others.                    *)
(*                                                                         *)
(* Left out: what members know of each other may be older than it is, and  *)
(* then less is collected; origins that end (they count up to their end);  *)
(* a member that is being rebuilt, or cannot be reached (nobody collects); *)
(* trimming logs; caches, which are no members.                            *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
  Writes,       \* how many puts and deletions there are in all
  Ahead,        \* how far a wall clock takes a stamp beyond the least that it may be
  Joins,        \* whether the third site may join
  EVERY_ORIGIN, \* a tombstone goes when every member has every origin past its stamp
  BEGIN_ABOVE,  \* an origin begins above every stamp that was collected
  HEARTBEAT,    \* an idle site that holds a tombstone logs an entry without a key
  FIRST_BEAT    \* so does one whose origin begins above what was collected, whatever it holds

Sites == 0..2
Empty == <<0, 0, "never">>

VARIABLES
  members, \* the sites that are there
  log,     \* log[s]: <<stamp, "put" | "delete" | "beat">>
  applied, \* applied[s][o]: how much of the log of o a site has applied
  clock,   \* clock[s]: the largest stamp that a site has seen
  data,    \* data[s]: what a site holds of the key, <<stamp, origin, "put" | "delete">>, or Empty
  freed    \* the largest stamp of any tombstone that was collected

vars == <<members, log, applied, clock, data, freed>>

Max(a, b) == IF a >= b THEN a ELSE b
Newer(a, b) == a[1] > b[1] \/ (a[1] = b[1] /\ a[2] > b[2])
Count(kind) == LET of(s) == Cardinality({i \in 1..Len(log[s]) : log[s][i][2] \in kind}) IN of(0) + of(1) + of(2)

Init ==
  /\ members = {0, 1}
  /\ log     = [s \in Sites |-> << >>]
  /\ applied = [s \in Sites |-> [o \in Sites |-> 0]]
  /\ clock   = [s \in Sites |-> 0]
  /\ data    = [s \in Sites |-> Empty]
  /\ freed   = 0

Logged(s, stamp, kind) ==
  /\ log'     = [log EXCEPT ![s] = Append(@, <<stamp, kind>>)]
  /\ applied' = [applied EXCEPT ![s][s] = @ + 1]
  /\ clock'   = [clock EXCEPT ![s] = stamp]

Write(s, kind, more) ==
  /\ s \in members
  /\ Count({"put", "delete"}) < Writes
  /\ LET stamp == clock[s] + 1 + more
     IN /\ Logged(s, stamp, kind)
        /\ data' = [data EXCEPT ![s] = <<stamp, s, kind>>]
  /\ UNCHANGED <<members, freed>>

Apply(s, o) ==
  /\ {s, o} \subseteq members
  /\ IF applied[s][o] < Len(log[o])
     THEN LET e == log[o][applied[s][o] + 1]
              new == <<e[1], o, e[2]>>
          IN /\ data'  = IF e[2] # "beat" /\ Newer(new, data[s]) THEN [data EXCEPT ![s] = new] ELSE data
             /\ clock' = [clock EXCEPT ![s] = Max(@, e[1])]
     ELSE FALSE
  /\ applied' = [applied EXCEPT ![s][o] = @ + 1]
  /\ UNCHANGED <<members, log, freed>>

\* The stamp up to which a site has an origin: that of the last entry applied.
Upto(s, o) == IF applied[s][o] = 0 THEN -1 ELSE log[o][applied[s][o]][1]

Waiting(s) == data[s][3] = "delete"

\* The third site begins above `freed`, which stays what it is until the site has said so.
Begins(s) == s = 2 /\ log[2] = << >> /\ freed > 0

Beat(s) ==
  /\ s \in members
  /\ \/ HEARTBEAT /\ Waiting(s) /\ Upto(s, s) < data[s][1]
     \/ FIRST_BEAT /\ Begins(s)
  /\ Logged(s, clock[s] + 1, "beat")
  /\ UNCHANGED <<members, data, freed>>

\* Without the rule: where every member has applied the deletion itself.
Past(s, origins) == \A m \in members, o \in origins : Upto(m, o) >= data[s][1]

Collect(s) ==
  /\ s \in members /\ Waiting(s)
  /\ Past(s, IF EVERY_ORIGIN THEN members ELSE {data[s][2]})
  /\ freed' = Max(freed, data[s][1])
  /\ data'  = [data EXCEPT ![s] = Empty]
  /\ UNCHANGED <<members, log, applied, clock>>

Join(from) ==
  /\ Joins
  /\ 2 \notin members
  /\ members' = members \cup {2}
  /\ applied' = [applied EXCEPT ![2] = applied[from]]
  /\ data'    = [data EXCEPT ![2] = data[from]]
  /\ clock'   = [clock EXCEPT ![2] = Max(data[from][1], IF BEGIN_ABOVE THEN freed ELSE 0)]
  /\ UNCHANGED <<log, freed>>

Fair ==
  \/ \E s \in Sites, o \in Sites : Apply(s, o)
  \/ \E s \in Sites : Beat(s) \/ Collect(s)

Next ==
  \/ \E s \in Sites, kind \in {"put", "delete"}, more \in 0..Ahead : Write(s, kind, more)
  \/ \E from \in 0..1 : Join(from)
  \/ Fair

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair)

\* The newest of all entries that a site has applied; of what a copy was made from, too.
Entries(s) == UNION {{<<log[o][i][1], o, log[o][i][2]>> : i \in {j \in 1..applied[s][o] : log[o][j][2] # "beat"}} : o \in Sites}
Newest(s) == IF Entries(s) = {} THEN Empty ELSE CHOOSE e \in Entries(s) : \A f \in Entries(s) : f = e \/ Newer(e, f)
Visible(v) == IF v[3] = "put" THEN v ELSE Empty

\* What a site shows is what the newest entry that it has applied says: nothing that was deleted comes back, at any site.
NothingReturns == \A s \in members : Visible(data[s]) = Visible(Newest(s))

\* Under fair replication no tombstone stays for ever.
TombstonesGo == []<>(\A s \in members : ~Waiting(s))
=============================================================================
