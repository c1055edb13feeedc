------------------------------- MODULE Trace -------------------------------
(***************************************************************************)
(* Do recorded runs obey the rules of the gate, and of failover? A run is  *)
(* a constant, a tuple of what happened, and a cursor steps over it: each  *)
(* step is possible only if the rules allow what was recorded. Where the   *)
(* cursor stops is the first event that breaks a rule; past the end, the   *)
(* run is accepted. Several runs are checked at once: each is an initial   *)
(* state of its own, and goes its one way. Where the mirror says that each *)
(* stops is Stops: none goes beyond (an invariant), and as many states as  *)
(* that makes are found (so none stops before).                            *)
(*                                                                         *)
(* For any number of shards, each with any number of origins: a place is   *)
(* one origin of one shard, and a frontier a tuple with an offset for each *)
(* place. Offsets are numbered from 1 on, which is the recorded offset 0:  *)
(* a watermark that has 0 has never heard of the origin, and a frontier    *)
(* that has 0 demands nothing of it. What sessions demand is computed, by  *)
(* the least that the rules demand, and joined with what was recorded of   *)
(* them, which must be no less.                                            *)
(*                                                                         *)
(* No frontier stands for what is not there: what sessions come with, what *)
(* they leave with and what servers cover has been numbered by then. Of    *)
(* numbers of no write of the run (heartbeats; a commit in doubt that      *)
(* nobody was ever shown) `number` tells.                                  *)
(*                                                                         *)
(* Histories end: `end` says where, as soon as anybody was told. Each      *)
(* answer says of which ends its process and its endpoint knew (`ends`):   *)
(* whoever knows of an end neither serves past it, nor a session that has  *)
(* lost a write and was not told, nor lets in a write that is lost from    *)
(* the start. An own write past an end that neither has heard of is still  *)
(* served, where it is still there. A loss is told, and accepted; each of  *)
(* a loss that is one.                                                     *)
(*                                                                         *)
(* A commit whose answer was lost is an event if it ever was shown: it has *)
(* happened before its writer was told that it is in doubt. From then on   *)
(* the writer is served only where it is, unless it is lost; nobody tells  *)
(* it of that. If it has never been shown, nothing is asked of it.         *)
(*                                                                         *)
(* What a write block showed are reads, before its commit; and they count, *)
(* whatever becomes of it. A write demands what its session has learned by *)
(* its commit, not by its begin.                                           *)
(*                                                                         *)
(* Left out: losses by the head of a live origin (L-6); marks of tokens,   *)
(* but for what they stand for; a commit in doubt that happens after its   *)
(* writer was told; several requests of one session at once; freshness and *)
(* ages: what ages out of a token, or is folded, must keep to these rules  *)
(* all the same. Demands of other shards than that of the watermark are    *)
(* believed to be held.                                                    *)
(*                                                                         *)
(* TraceData is written by mirror/trace.py.                                *)
(***************************************************************************)
EXTENDS Integers, Sequences, TraceData

VARIABLES
  run,      \* which of the runs this is
  i,        \* the number of the next event
  own,      \* own[c]: a session's acknowledged writes
  seen,     \* seen[c]: what else it demands
  doubt,    \* doubt[c]: its commits whose answers were lost, and that have happened
  ended,    \* where each origin ends; 0 while it goes on
  told,     \* the ends that were told, of each origin
  last,     \* how far each origin has numbered; 1, the recorded offset 0, is nothing
  shown,    \* shown[l]: how far a server was in one of its lives
  versions  \* what was committed: [who, key, at, offset, stamp, deps]

vars == <<run, i, own, seen, doubt, ended, told, last, shown, versions>>

Max(a, b)  == IF a >= b THEN a ELSE b
Join(f, g) == IF f = << >> THEN g ELSE [p \in Places |-> Max(f[p], g[p])]
Nothing    == [p \in Places |-> 0]
Put(f, p, n)    == [f EXCEPT ![p] = Max(@, n)]
Past(end, n)    == end # 0 /\ n > end
Clipped(f)      == [p \in Places |-> IF Past(ended[p], f[p]) THEN ended[p] ELSE f[p]]

\* What a session must still say that it demands: of what others lost, what survives.
Token(c)        == Join(own[c], Clipped(seen[c]))
\* What was not recorded is believed.
AtLeast(f, g)   == IF f = << >> \/ g = << >> THEN TRUE ELSE \A p \in Places : f[p] >= g[p]
Demand(e)       == Join(e.in, Join(Join(own[e.who], seen[e.who]), doubt[e.who]))

\* Whether an answer made at a watermark holds, of one origin, what a session demands; -1 is of another shard, and believed.
Holds(e, p) ==
  LET here == e.mark[p]
      all  == Demand(e)[p]
      mine == own[e.who][p]
  IN \/ here = -1
     \/ here >= all
     \/ Past(ended[p], all) /\ IF Past(ended[p], mine) THEN here >= mine ELSE here >= ended[p]

\* Nobody who knows where a history ends serves a session that has lost a write there, or what is past it.
Told(e)     == \A p \in Places : ~Past(e.ends[p], own[e.who][p])
Survives(e) == \A p \in Places : ~Past(e.ends[p], e.mark[p])
Gated(e)    == Told(e) /\ Survives(e) /\ \A p \in Places : Holds(e, p)

\* Ends are known once they are there.
Honest(e)   == \A p \in Places : e.ends[p] # 0 => e.ends[p] \in told[p]
\* A session comes with all that it was left with, whatever it asks for.
Comes(e)    == AtLeast(e.in, Token(e.who))
\* Nobody demands, or covers, what nobody has numbered. (The watermark that is said of a leader may have the very write.)
There(e)    == AtLeast(last, e.in) /\ AtLeast(last', e.out) /\ \A p \in Places : e.mark[p] <= last[p] \/ e.mark[p] = last'[p]
\* In one life, a server does not go back.
Forward(e)  == e.life # 0 => \A p \in Places : e.mark[p] = -1 \/ e.mark[p] >= shown[e.life][p]

Visible(mark, key) == {v \in versions : v.key = key /\ v.offset <= mark[v.at]}

Init ==
  /\ run \in 1..Len(Runs)
  /\ i = 1
  /\ own = [c \in Sessions |-> Nothing] /\ seen = own /\ doubt = own
  /\ ended = Nothing
  /\ told = [p \in Places |-> {}]
  /\ last = [p \in Places |-> 1]
  /\ shown = [l \in Lives |-> Nothing]
  /\ versions = {}

\* What an operation leaves a session with: what it had, `more`, and what was recorded.
Learns(e, more) ==
  LET all == Join(seen[e.who], more)
  IN AtLeast(e.out, Join(own'[e.who], Clipped(all))) /\ seen' = [seen EXCEPT ![e.who] = Join(e.out, all)]

\* A number is one that nobody has had; and none that survives, once a history has ended.
Numbers(e) ==
  /\ last[e.at] < e.offset
  /\ ended[e.at] = 0 \/ Past(ended[e.at], e.offset)
  /\ last' = [last EXCEPT ![e.at] = e.offset]

\* Something else was numbered than a write of the run.
Number(e) == Numbers(e) /\ UNCHANGED <<own, seen, doubt, ended, told, versions>>

\* A leader takes a write: it covers what the writer demands by then, its history goes on as far as anybody there knows; and it stamps the
\* write above what it holds of the key.
Commit(e) ==
  /\ Gated(e)
  /\ e.ends[e.at] = 0
  /\ Numbers(e)
  /\ \A v \in Visible(e.mark, e.key) : v.stamp < e.stamp
  /\ versions' = versions \cup
       {[who |-> e.who, key |-> e.key, at |-> e.at, offset |-> e.offset, stamp |-> e.stamp, deps |-> Put(Demand(e), e.at, e.offset)]}
  /\ UNCHANGED <<own, seen, doubt, ended, told>>

\* The writer, and nobody else, learns of it: what it demands from now on covers the write, and what the write depends on.
Acknowledge(e) ==
  /\ \E v \in versions :
       /\ v.who = e.who /\ v.at = e.at /\ v.offset = e.offset
       /\ own' = [own EXCEPT ![e.who] = Put(@, e.at, e.offset)]
       /\ Learns(e, v.deps)
  /\ UNCHANGED <<doubt, ended, told, last, versions>>

\* The writer learns that nobody knows. `at` is 0 if the write was never shown to anybody.
Unknown(e) ==
  /\ IF e.at = 0 THEN UNCHANGED doubt
     ELSE /\ \E v \in versions : v.who = e.who /\ v.at = e.at /\ v.offset = e.offset
          /\ doubt' = [doubt EXCEPT ![e.who] = Put(@, e.at, e.offset)]
  /\ UNCHANGED own /\ Learns(e, Nothing)
  /\ UNCHANGED <<ended, told, last, versions>>

\* A read is served where the watermark covers what the session demands. It shows of its key the newest that the watermark covers, or nothing
\* where that covers none; the session joins what that depends on. `held` FALSE: its policy promised no gate.
Read(e) ==
  /\ e.held => Gated(e)
  /\ UNCHANGED own
  /\ IF e.offset = 0
     THEN Visible(e.mark, e.key) = {} /\ Learns(e, Nothing)
     ELSE \E v \in Visible(e.mark, e.key) :
            /\ v.at = e.at /\ v.offset = e.offset
            /\ \A u \in Visible(e.mark, e.key) : u.stamp <= v.stamp
            /\ Learns(e, v.deps)
  /\ UNCHANGED <<doubt, ended, told, last, versions>>

\* Whatever is refused leaves the session with what it demanded.
Refuse(e) ==
  /\ UNCHANGED own /\ Learns(e, Nothing)
  /\ UNCHANGED <<doubt, ended, told, last, versions>>

\* Of several ends of one origin, the lowest counts.
End(e) ==
  /\ told' = [told EXCEPT ![e.at] = @ \cup {e.offset}]
  /\ ended' = [ended EXCEPT ![e.at] = IF @ = 0 \/ @ > e.offset THEN e.offset ELSE @]
  /\ UNCHANGED <<own, seen, doubt, last, versions>>

\* What is told as lost is lost, and the session's own.
IsLost(e) == Past(ended[e.at], e.offset) /\ own[e.who][e.at] >= e.offset
Lost(e)   == IsLost(e) /\ UNCHANGED <<own, seen, doubt, ended, told, last, versions>>

\* The session accepts the loss, exactly that. What it has seen counts up to the end in any case.
Forget(e) ==
  /\ IsLost(e)
  /\ own' = [own EXCEPT ![e.who][e.at] = IF @ = e.offset THEN ended[e.at] ELSE @]
  /\ UNCHANGED <<seen, doubt, ended, told, last, versions>>

\* It accepts that an own write, which gave way to a mark, may be lost: something was, and a mark need not remember of which origin.
InDoubt(e) ==
  /\ \E p \in Places : ended[p] # 0
  /\ own' = [own EXCEPT ![e.who][e.at] = 0]
  /\ UNCHANGED <<seen, doubt, ended, told, last, versions>>

\* What a server has shown in its life: its watermark, and what it has numbered.
Shows(e) ==
  LET far == Join([p \in Places |-> Max(e.mark[p], 0)], shown[e.life])
  IN IF e.life = 0 THEN UNCHANGED shown
     ELSE shown' = [shown EXCEPT ![e.life] = IF e.op = "commit" THEN Put(far, e.at, e.offset) ELSE far]

Next ==
  /\ i <= Len(Runs[run])
  /\ LET e == Runs[run][i]
     IN /\ Honest(e) /\ Forward(e) /\ Shows(e) /\ Comes(e)
        /\ CASE e.op = "commit"   -> Commit(e)
             [] e.op = "number"   -> Number(e)
             [] e.op = "ack"      -> Acknowledge(e)
             [] e.op = "unknown"  -> Unknown(e)
             [] e.op = "read"     -> Read(e)
             [] e.op = "refuse"   -> Refuse(e)
             [] e.op = "end"      -> End(e)
             [] e.op = "lost"     -> Lost(e)
             [] e.op = "forget"   -> Forget(e)
             [] e.op = "in_doubt" -> InDoubt(e)
        /\ There(e)
  /\ i' = i + 1
  /\ UNCHANGED run

Spec == Init /\ [][Next]_vars

NotBeyond == i <= Stops[run]
=============================================================================
