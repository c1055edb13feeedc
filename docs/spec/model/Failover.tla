------------------------------ MODULE Failover ------------------------------
(***************************************************************************)
(* Failover with lost tails (failover.md; the verdicts of frontier.md).    *)
(*                                                                         *)
(* Two shards. The photos are on two servers, A and B: one leads and       *)
(* acknowledges writes at once, the other copies its log when it can. It   *)
(* may take over at any time, and what it had not copied is lost. The one  *)
(* it took over from may hold what is lost, until it has rejoined. The     *)
(* posts are on a server that never fails: of them, only what they depend  *)
(* on matters. Two sessions write photos, post, and read both.             *)
(*                                                                         *)
(* A log is a sequence of origins: log[x][n] numbered the write at place   *)
(* n. An origin's first entry says that it begins, and is nobody's write.  *)
(* A session's own and seen frontiers say, for each origin, up to where.   *)
(*                                                                         *)
(* Left out: several origins that take writes at once (Compaction has two; *)
(* Trace takes any number); a leader that goes on after it was replaced,   *)
(* as leaders are fenced, and the time that news of an end takes (News has *)
(* both); ages.                                                            *)
(* MonotonicReads is part of CausalReads here: what a read showed is in    *)
(* the causal past of the next.                                            *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
  Length, Failovers, Restarts,  \* how long logs get; how often the follower takes over, and restarts
  Cache,         \* reads are decided by the watermark that was noted last, not by one taken for them
  ORIGINS,       \* a leader begins a new origin; FALSE: it goes on under the old number
  MERGE,         \* a post stores what its writer demands, and who reads it demands that
  GATED_WRITES,  \* a leader takes a session's write only if it covers what the session demands
  TOLD,          \* a session whose own write is lost is told, before anything else
  CLIP,          \* what others lost counts only up to its origin's end
  DIVERGED,      \* a server that holds writes past an origin's end is not read
  INCARNATION,   \* what was noted of a server counts until it restarts
  HEARD          \* nobody takes over who has not heard of the newest origin

Sessions == 0..1
Servers  == 0..1
Origins  == 1..(Failovers + 1)

VARIABLES
  start,     \* start[o]: the place of origin o's first entry; as many as there are origins by now
  leader,
  log,       \* log[x]: the photos at server x
  noted,     \* noted[x]: what was last heard of x's log, in its present incarnation; empty if nothing was
  restarts,
  own, seen, \* own[c], seen[c]: the frontiers of a session's token, on the photos
  mine, saw, \* the same, as it is in truth: whatever origins are called
  posts,     \* what is stored with the posts: the join of their writers' frontiers
  cause,     \* the same, in truth
  broken     \* what some answer has broken

vars == <<start, leader, log, noted, restarts, own, seen, mine, saw, posts, cause, broken>>

Max(a, b)  == IF a >= b THEN a ELSE b
Min(a, b)  == IF a <= b THEN a ELSE b
Join(f, g) == [o \in Origins |-> Max(f[o], g[o])]
Nothing    == [o \in Origins |-> 0]
Live       == 99  \* the end of an origin that has none

Begun    == 1..Len(start)
Newest   == Len(start)
Follower == 1 - leader

\* What an origin is called in positions.
Number(o) == IF ORIGINS THEN o ELSE 1

\* Where the surviving history of an origin stops.
End(o) ==
  IF o = Newest THEN Live
  ELSE (CHOOSE n \in {start[p] : p \in (o + 1)..Newest} : \A p \in (o + 1)..Newest : n <= start[p]) - 1

\* The last place in a log that an origin numbered; 0 where the log has never heard of it.
Applied(l, o) ==
  LET places == {n \in 1..Len(l) : l[n] = o}
  IN IF places = {} THEN 0 ELSE CHOOSE n \in places : \A m \in places : m <= n

IsPrefix(l, m) == Len(l) <= Len(m) /\ SubSeq(m, 1, Len(l)) = l

\* What is known of an origin's end: that of one of which nobody has heard is not. Without origins, there is only the leader's head.
Limit(o) ==
  IF ~ORIGINS THEN Len(log[leader])
  ELSE IF End(o) >= start[o] THEN End(o) ELSE Live

Lost(f)    == {o \in Begun : f[o] > Limit(o)}
Clipped(f) == [o \in Origins |-> IF o \in Lost(f) THEN Limit(o) ELSE f[o]]

Demand(c) == Join(own[c], seen[c])

\* The gate: whether a log has applied all that a session demands.
Covers(c, l) ==
  LET need == IF CLIP THEN Clipped(Demand(c)) ELSE Demand(c)
  IN IF ~ORIGINS THEN Len(l) >= need[1]
     ELSE \A o \in Origins : need[o] = 0 \/ Applied(l, o) >= need[o]

Diverged(l) == \E o \in Begun : Applied(l, o) > End(o)

\* Whether a session must be told of a loss before it gets any answer.
MustHear(c) == TOLD /\ Lost(own[c]) # {}

Has(l, o, n) == n < start[o] \/ (n <= Len(l) /\ IF n <= Len(l) THEN l[n] = o ELSE FALSE)

\* What an answer now would break, whatever it is...
Silent(c) == IF \E o \in Begun : mine[c][o] > End(o) THEN {"NoSilentLoss"} ELSE {}

\* ... and if it is made from a log.
Misses(c, l) ==
  Silent(c)
  \cup (IF \E o \in Begun : ~Has(l, o, Min(mine[c][o], End(o))) THEN {"ReadYourWrites"} ELSE {})
  \cup (IF \E o \in Begun : ~Has(l, o, Min(saw[c][o], End(o))) THEN {"CausalReads"} ELSE {})
  \cup (IF Diverged(l) THEN {"OnlySurvivors"} ELSE {})

Init ==
  /\ start = <<1>> /\ leader = 0 /\ restarts = 0
  /\ log   = [x \in Servers |-> <<1>>]
  /\ noted = [x \in Servers |-> << >>]
  /\ own   = [c \in Sessions |-> Nothing] /\ seen = own /\ mine = own /\ saw = own
  /\ posts = Nothing /\ cause = Nothing /\ broken = {}

\* The session is told which own writes are lost, and accepts it: what it demands stops at the ends.
Told(c) ==
  LET gone == Lost(own[c])
      accepted(f, o) == IF Number(o) \in gone /\ f[o] <= own[c][Number(o)] THEN Min(f[o], Limit(Number(o))) ELSE f[o]
  IN /\ MustHear(c)
     /\ own'  = [own EXCEPT ![c] = Clipped(@)]
     /\ seen' = [seen EXCEPT ![c] = [o \in Origins |-> accepted(@, o)]]
     /\ mine' = [mine EXCEPT ![c] = [o \in Origins |-> accepted(@, o)]]
     /\ saw'  = [saw EXCEPT ![c] = [o \in Origins |-> accepted(@, o)]]
     /\ UNCHANGED <<start, leader, log, noted, restarts, posts, cause, broken>>

Write(c) ==
  LET n == Len(log[leader]) + 1
  IN /\ GATED_WRITES => ~MustHear(c) /\ Covers(c, log[leader])
     /\ n <= Length
     /\ log'    = [log EXCEPT ![leader] = Append(@, Newest)]
     /\ own'    = [own EXCEPT ![c][Number(Newest)] = n]
     /\ mine'   = [mine EXCEPT ![c][Newest] = n]
     /\ broken' = broken \cup Misses(c, log[leader])
     /\ UNCHANGED <<start, leader, noted, restarts, seen, saw, posts, cause>>

\* Posts are written and read where nothing of the photos is held: only a loss stands in the way. (A store whose versions carry
\* dependencies has all shards at every endpoint, and waits for the photos there, too: it lets in no more than this.)
Post(c) ==
  /\ ~MustHear(c)
  /\ posts'  = IF MERGE THEN Join(posts, Demand(c)) ELSE posts
  /\ cause'  = Join(cause, Join(mine[c], saw[c]))
  /\ seen'   = [seen EXCEPT ![c] = IF MERGE THEN posts' ELSE @]
  /\ saw'    = [saw EXCEPT ![c] = cause']
  /\ broken' = broken \cup Silent(c)
  /\ UNCHANGED <<start, leader, log, noted, restarts, own, mine>>

ReadPosts(c) ==
  /\ ~MustHear(c)
  /\ seen'   = [seen EXCEPT ![c] = Join(@, posts)]
  /\ saw'    = [saw EXCEPT ![c] = Join(@, cause)]
  /\ broken' = broken \cup Silent(c)
  /\ UNCHANGED <<start, leader, log, noted, restarts, own, mine, posts, cause>>

Read(c, x) ==
  LET known == IF Cache THEN noted[x] ELSE log[x]
      truth == [o \in Origins |-> Applied(log[x], o)]
      shown == IF ORIGINS THEN truth ELSE [Nothing EXCEPT ![1] = Len(log[x])]
  IN /\ ~MustHear(c)
     /\ known # << >> /\ Covers(c, known)
     /\ DIVERGED => ~Diverged(log[x])
     /\ seen'   = [seen EXCEPT ![c] = Join(@, shown)]
     /\ saw'    = [saw EXCEPT ![c] = Join(@, truth)]
     /\ broken' = broken \cup Misses(c, log[x])
     /\ UNCHANGED <<start, leader, log, noted, restarts, own, mine, posts, cause>>

Note(x) ==
  /\ Cache
  /\ noted' = [noted EXCEPT ![x] = log[x]]
  /\ UNCHANGED <<start, leader, log, restarts, own, seen, mine, saw, posts, cause, broken>>

Replicate(x) ==
  /\ x = Follower /\ IsPrefix(log[x], log[leader]) /\ log[x] # log[leader]
  /\ log' = [log EXCEPT ![x] = SubSeq(log[leader], 1, Len(@) + 1)]
  /\ UNCHANGED <<start, leader, noted, restarts, own, seen, mine, saw, posts, cause, broken>>

\* A follower that is past the fork goes back to it. It restarts for that.
Rejoin(x) ==
  /\ x = Follower /\ ~IsPrefix(log[x], log[leader])
  /\ log' = [log EXCEPT ![x] = SubSeq(@, 1, CHOOSE n \in 0..Len(@) :
                /\ IsPrefix(SubSeq(@, 1, n), log[leader])
                /\ ~IsPrefix(SubSeq(@, 1, n + 1), log[leader]))]
  /\ noted' = [noted EXCEPT ![x] = << >>]
  /\ UNCHANGED <<start, leader, restarts, own, seen, mine, saw, posts, cause, broken>>

\* A follower that restarts may first show an earlier state.
Restart(x, n) ==
  /\ x = Follower /\ restarts < Restarts /\ n \in 1..(Len(log[x]) - 1)
  /\ log'      = [log EXCEPT ![x] = SubSeq(@, 1, n)]
  /\ noted'    = IF INCARNATION THEN [noted EXCEPT ![x] = << >>] ELSE noted
  /\ restarts' = restarts + 1
  /\ UNCHANGED <<start, leader, own, seen, mine, saw, posts, cause, broken>>

Failover(x) ==
  /\ x = Follower /\ Newest <= Failovers
  /\ IsPrefix(log[x], log[leader])
  /\ HEARD => Applied(log[x], Newest) > 0
  /\ start'  = Append(start, Len(log[x]) + 1)
  /\ leader' = x
  /\ log'    = IF ORIGINS THEN [log EXCEPT ![x] = Append(@, Newest + 1)] ELSE log
  /\ UNCHANGED <<noted, restarts, own, seen, mine, saw, posts, cause, broken>>

Next ==
  \/ \E c \in Sessions : Told(c) \/ Write(c) \/ Post(c) \/ ReadPosts(c)
  \/ \E c \in Sessions, x \in Servers : Read(c, x)
  \/ \E x \in Servers : Note(x) \/ Replicate(x) \/ Rejoin(x) \/ Failover(x) \/ \E n \in 1..Length : Restart(x, n)

Spec == Init /\ [][Next]_vars /\ \A x \in Servers : WF_vars(Replicate(x)) /\ WF_vars(Rejoin(x))

NoSilentLoss   == "NoSilentLoss" \notin broken
ReadYourWrites == "ReadYourWrites" \notin broken
CausalReads    == "CausalReads" \notin broken
OnlySurvivors  == "OnlySurvivors" \notin broken

\* Under fair replication a session is, again and again, told of its loss at once, or served wherever it asks.
EveryGateOpens == \A c \in Sessions, x \in Servers :
  []<>(Lost(own[c]) # {} \/ (Covers(c, log[x]) /\ ~Diverged(log[x])))
=============================================================================
