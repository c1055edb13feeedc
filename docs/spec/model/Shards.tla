------------------------------- MODULE Shards -------------------------------
(***************************************************************************)
(* Two shards, each of which may fail over (failover.md; gate.md, on the   *)
(* need of all shards).                                                    *)
(*                                                                         *)
(* The photos and the posts are on the same two servers. Each shard has    *)
(* its own leader, its own log and its own failover: one server may hold   *)
(* what is lost of the one shard, and lead the other. Versions carry what  *)
(* their writers demanded, of both shards, and both ends of such a         *)
(* dependency may be lost. Whoever answers has applied what is demanded of *)
(* every shard, and holds nothing that is lost of any. A session is told   *)
(* of its losses and accepts them later: meanwhile the other shard may     *)
(* fail over, too.                                                         *)
(*                                                                         *)
(* Logs are as in Failover, but that an entry carries what was stored with *)
(* it, and with all before it.                                             *)
(*                                                                         *)
(* Left out: what Failover and News have of one shard (restarts, what was  *)
(* noted of a server, positions without origins, a leader nobody heard of, *)
(* news that takes its time), a second failover of one shard, marks.       *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
  Length, Writes,        \* how long logs get by writes, and how many of these there are, all by session 0
  OwnReads, OtherReads,  \* whether session 0 reads, and whether session 1 does
  Both,        \* both shards fail over; FALSE: only the photos
  Apart,       \* at first each server leads a shard; FALSE: server 0 leads both
  MERGE,       \* a version stores its writer's demand, readers and writers join it
  ALL_LOSSES,  \* a session is told of its losses on every shard before it is answered on any; FALSE: on the one it asks for
  EXACT,       \* an accepted loss takes away what was named; FALSE: whatever is lost by then
  CLIP,        \* what others lost counts up to its end, on every shard; FALSE: on the one that is asked for
  DIVERGED,    \* a server that holds what is lost, of whichever shard, is not read
  EACH_SHARD   \* a server follows a shard's leader whatever that one holds of the other; FALSE: only one that could be read

Sessions == 0..1
Shards   == 0..1
Servers  == 0..1
Origins  == 1..2

VARIABLES
  start,     \* start[s][o]: the place of the first entry of an origin of a shard; as many as there are by now
  leader,    \* leader[s]
  log,       \* log[s][x]: a shard at server x; of each entry its origin `o`, what is stored with it `dep`, and its past in truth `cause`
  own, seen, \* own[c], seen[c]: the frontiers of a session's token
  mine, saw, \* the same, as it is in truth
  named,     \* named[c]: the origins whose losses a session was told of, and has not accepted yet
  writes,    \* how many there were
  broken     \* what some answer has broken

vars == <<start, leader, log, own, seen, mine, saw, named, writes, broken>>

Max(a, b)  == IF a >= b THEN a ELSE b
Min(a, b)  == IF a <= b THEN a ELSE b
Join(f, g) == [s \in Shards |-> [o \in Origins |-> Max(f[s][o], g[s][o])]]
Nothing    == [s \in Shards |-> [o \in Origins |-> 0]]
Live       == 99  \* the end of an origin that has none

Newest(s)   == Len(start[s])
Follower(s) == 1 - leader[s]
Led(s)     == log[s][leader[s]]

\* Where the surviving history of an origin stops.
End(s, o) == IF o = 1 /\ Newest(s) = 2 THEN start[s][2] - 1 ELSE Live

\* The last place in a log that an origin numbered; 0 where the log has never heard of it. (The second follows the first.)
Applied(s, l, o) ==
  IF l[Len(l)].o = o THEN Len(l) ELSE IF o = 1 THEN start[s][2] - 1 ELSE 0

\* Logs that name the same origin at one place are the same up to there.
IsPrefix(l, m) == Len(l) <= Len(m) /\ IF Len(l) <= Len(m) THEN l[Len(l)].o = m[Len(l)].o ELSE FALSE

Lost(f) == {p \in Shards \X Origins : f[p[1]][p[2]] > End(p[1], p[2])}

Demand(c) == Join(own[c], seen[c])

\* The gate of shard s: whether a server has applied all that a session demands, of every shard.
Covers(c, s, x) == \A t \in Shards, o \in Origins :
  LET demand == Demand(c)[t][o]
      need   == IF CLIP \/ t = s THEN Min(demand, End(t, o)) ELSE demand
  IN need = 0 \/ Applied(t, log[t][x], o) >= need

\* Whether a server holds what is lost, of whichever shard.
Diverged(x) == \E s \in Shards, o \in Origins : Applied(s, log[s][x], o) > End(s, o)

\* Whether a session must be told of a loss, and accept it, before it gets an answer.
MustHear(c, s) == \E p \in Lost(own[c]) : ALL_LOSSES \/ p[1] = s

Admitted(c, s, x) == ~MustHear(c, s) /\ Covers(c, s, x) /\ (DIVERGED => ~Diverged(x))

Has(l, s, o, n) == n < start[s][o] \/ (n <= Len(l) /\ IF n <= Len(l) THEN l[n].o = o ELSE FALSE)

\* What an answer from a shard's log would break now.
Misses(c, s, l) ==
  LET begun == 1..Newest(s)
  IN (IF Lost(mine[c]) # {} THEN {"NoSilentLoss"} ELSE {})
     \cup (IF \E o \in begun : ~Has(l, s, o, Min(Max(mine[c][s][o], saw[c][s][o]), End(s, o))) THEN {"CausalReads"} ELSE {})
     \cup (IF \E o \in begun : Applied(s, l, o) > End(s, o) THEN {"OnlySurvivors"} ELSE {})

Init ==
  /\ start  = [s \in Shards |-> <<1>>]
  /\ leader = [s \in Shards |-> IF Apart THEN s ELSE 0]
  /\ log    = [s \in Shards |-> [x \in Servers |-> <<[o |-> 1, dep |-> Nothing, cause |-> Nothing]>>]]
  /\ own    = [c \in Sessions |-> Nothing] /\ seen = own /\ mine = own /\ saw = own
  /\ named  = [c \in Sessions |-> {}]
  /\ writes = 0 /\ broken = {}

\* The session is told which own writes are lost...
Told(c) ==
  /\ named[c] = {} /\ Lost(own[c]) # {}
  /\ named' = [named EXCEPT ![c] = Lost(own[c])]
  /\ UNCHANGED <<start, leader, log, own, seen, mine, saw, writes, broken>>

\* ... and accepts it: what it demands of these stops at their ends. In truth it has accepted what was named.
Accept(c) ==
  LET gone == IF EXACT THEN named[c] ELSE Lost(own[c])
      cut(f, places) == [s \in Shards |-> [o \in Origins |->
        IF <<s, o>> \in places /\ f[s][o] <= own[c][s][o] THEN Min(f[s][o], End(s, o)) ELSE f[s][o]]]
  IN /\ named[c] # {}
     /\ own'   = [own EXCEPT ![c] = cut(@, gone)]
     /\ seen'  = [seen EXCEPT ![c] = cut(@, gone)]
     /\ mine'  = [mine EXCEPT ![c] = cut(@, named[c])]
     /\ saw'   = [saw EXCEPT ![c] = cut(@, named[c])]
     /\ named' = [named EXCEPT ![c] = {}]
     /\ UNCHANGED <<start, leader, log, writes, broken>>

Write(c, s) ==
  LET n        == Len(Led(s)) + 1
      before   == Led(s)[n - 1]
      position == [Nothing EXCEPT ![s][Newest(s)] = n]
      stored   == IF MERGE THEN Join(Demand(c), before.dep) ELSE Nothing
      cause    == Join(Join(mine[c], saw[c]), before.cause)
      entry    == [o |-> Newest(s), dep |-> Join(stored, position), cause |-> Join(cause, position)]
  IN /\ c = 0 /\ writes < Writes /\ n <= Length
     /\ Admitted(c, s, leader[s])
     /\ log'    = [log EXCEPT ![s][leader[s]] = Append(@, entry)]
     /\ own'    = [own EXCEPT ![c] = Join(@, position)]
     /\ seen'   = [seen EXCEPT ![c] = Join(@, stored)]
     /\ mine'   = [mine EXCEPT ![c] = Join(@, position)]
     /\ saw'    = [saw EXCEPT ![c] = Join(@, cause)]
     /\ writes' = writes + 1
     /\ broken' = broken \cup Misses(c, s, Led(s))
     /\ UNCHANGED <<start, leader, named>>

Read(c, s, x) ==
  LET l    == log[s][x]
      here == [Nothing EXCEPT ![s] = [o \in Origins |-> Applied(s, l, o)]]
  IN /\ (IF c = 0 THEN OwnReads ELSE OtherReads)
     /\ Admitted(c, s, x)
     /\ seen'   = [seen EXCEPT ![c] = Join(@, Join(here, l[Len(l)].dep))]
     /\ saw'    = [saw EXCEPT ![c] = Join(@, Join(here, l[Len(l)].cause))]
     /\ broken' = broken \cup Misses(c, s, l)
     /\ UNCHANGED <<start, leader, log, own, mine, named, writes>>

Follows(s) == EACH_SHARD \/ ~Diverged(leader[s])

Replicate(s, x) ==
  /\ x = Follower(s) /\ Follows(s)
  /\ IsPrefix(log[s][x], Led(s)) /\ log[s][x] # Led(s)
  /\ log' = [log EXCEPT ![s][x] = SubSeq(Led(s), 1, Len(@) + 1)]
  /\ UNCHANGED <<start, leader, own, seen, mine, saw, named, writes, broken>>

\* A follower that is past the fork goes back to it.
Rejoin(s, x) ==
  /\ x = Follower(s) /\ Follows(s)
  /\ ~IsPrefix(log[s][x], Led(s))
  /\ log' = [log EXCEPT ![s][x] = SubSeq(@, 1, End(s, 1))]
  /\ UNCHANGED <<start, leader, own, seen, mine, saw, named, writes, broken>>

Failover(s, x) ==
  LET l == log[s][x]
  IN /\ x = Follower(s) /\ Newest(s) = 1 /\ (Both \/ s = 0)
     /\ IsPrefix(l, Led(s))
     /\ start'  = [start EXCEPT ![s] = Append(@, Len(l) + 1)]
     /\ leader' = [leader EXCEPT ![s] = x]
     /\ log'    = [log EXCEPT ![s][x] = Append(@, [l[Len(l)] EXCEPT !.o = 2])]
     /\ UNCHANGED <<own, seen, mine, saw, named, writes, broken>>

Fair ==
  \/ \E s \in Shards, x \in Servers : Replicate(s, x) \/ Rejoin(s, x)
  \/ \E c \in Sessions : Told(c) \/ Accept(c)

Next ==
  \/ \E c \in Sessions, s \in Shards : Write(c, s)
  \/ \E c \in Sessions, s \in Shards, x \in Servers : Read(c, s, x)
  \/ \E s \in Shards, x \in Servers : Failover(s, x)
  \/ Fair

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair)

NoSilentLoss   == "NoSilentLoss" \notin broken
CausalReads    == "CausalReads" \notin broken
OnlySurvivors  == "OnlySurvivors" \notin broken

\* Under fair replication a session that accepts its losses is, again and again, served wherever it asks.
EveryGateOpens == []<>(\A c \in Sessions, s \in Shards, x \in Servers :
  ~MustHear(c, s) /\ Covers(c, s, x) /\ ~Diverged(x))
=============================================================================
