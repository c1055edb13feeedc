-------------------------------- MODULE News --------------------------------
(***************************************************************************)
(* News of an end takes its time (failover.md; G-55 of gate.md).           *)
(*                                                                         *)
(* In Failover everybody hears of an end at once. Here a process knows of  *)
(* an end what an endpoint has answered it, and an endpoint knows of it    *)
(* what its log says: the entry with which the next origin begins. One     *)
(* shard on two servers: one takes over, and lacks a tail. The other may   *)
(* not have heard, and go on: it numbers its origin until it follows.      *)
(* Two sessions, whose tokens go to any of the processes. A     write takes *)
(* two steps, admission and commit; anything may happen between them: the  *)
(* news, a failover, other requests of the same session.                   *)
(*                                                                         *)
(* A loss is silent if an answer lacks an acknowledged write of the        *)
(* session, lost or not, of which the session was not told. That must not  *)
(* be, whoever has heard of what.                                          *)
(*                                                                         *)
(* Left out: what Failover has (other shards, restarts that go back,       *)
(* leaders that nobody has heard of); several origins that take writes at  *)
(* once (Origins); ages.                                                   *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANTS
  Length, Failovers,  \* how long logs get by writes; how often the follower takes over
  Writers, Through,   \* how many of the two sessions write; through how many processes
  Fenced,        \* whether who is replaced stops at once
  TOLD,          \* a session whose own write is lost is told, before anything else
  CLIP,          \* what others lost counts only up to its origin's end
  DIVERGED,      \* who holds writes past an end that is known is not read
  REPLACED,      \* nothing is written where all that is numbered is known to have ended
  GATED_WRITES,  \* a write is admitted only where what the session demands is applied, and nothing is lost
  AGAIN,         \* what a session learned since a write was admitted is judged at its commit
  ASKED_AFTER,   \* a head past which an own write is lost was asked for after the request
  NUMBERER       \* and it is that of who numbers the origin, not anybody's

Sessions  == 0..1
Servers   == 0..1
Processes == 0..(Through - 1)
Origins   == 1..(Failovers + 1)
Live      == 99  \* the end of an origin that has none, or none that is known

VARIABLES
  leader,
  log,       \* log[x]: who numbered the entries that server x has
  num,       \* num[x]: the origin that x says it numbers; 0: none
  knows,     \* knows[p][o]: the end of an origin, as process p knows it
  noted,     \* noted[p][o]: a head that p was told some time, or Live
  own, seen, \* the frontiers of a session's token
  mine, saw, \* the same, in truth
  writing,   \* writing[c]: << >>, or <<process, server, whether the session has learned more since>>
  broken     \* what some answer has broken

vars == <<leader, log, num, knows, noted, own, seen, mine, saw, writing, broken>>

Max(a, b)  == IF a >= b THEN a ELSE b
Min(a, b)  == IF a <= b THEN a ELSE b
Join(f, g) == [o \in Origins |-> Max(f[o], g[o])]
Nothing    == [o \in Origins |-> 0]
Unknown    == [o \in Origins |-> Live]

Follower == 1 - leader
Newest   == log[leader][Len(log[leader])]

\* The last place in a log that an origin numbered; 0 where the log has never heard of it.
Applied(l, o) ==
  LET places == {n \in 1..Len(l) : l[n] = o}
  IN IF places = {} THEN 0 ELSE CHOOSE n \in places : \A m \in places : m <= n
Shown(l) == [o \in Origins |-> Applied(l, o)]

\* Where an origin ends, as a log tells it.
Tells(l, o) ==
  LET later == {n \in 1..Len(l) : l[n] > o}
  IN IF later = {} THEN Live ELSE (CHOOSE n \in later : \A m \in later : n <= m) - 1

\* ... and in truth.
End(o) == Tells(log[leader], o)

IsPrefix(l, m) == Len(l) <= Len(m) /\ SubSeq(m, 1, Len(l)) = l

\* The head past which an own write is lost: by who numbers the origin, asked now.
Highest(p, o) ==
  LET heads == {Applied(log[x], o) : x \in {y \in Servers : num[y] = o \/ (~NUMBERER /\ Applied(log[y], o) > 0)}}
  IN IF ~ASKED_AFTER THEN noted[p][o]
     ELSE IF heads = {} THEN Live ELSE CHOOSE n \in heads : \A m \in heads : n <= m

Stop(p, o) == Min(knows[p][o], Highest(p, o))
Lost(c, p) == {o \in Origins : own[c][o] > Stop(p, o)}
MustHear(c, p) == TOLD /\ Lost(c, p) # {}

Covers(c, p, l) == \A o \in Origins :
  LET all  == Max(own[c][o], seen[c][o])
      need == IF CLIP THEN Min(all, knows[p][o]) ELSE all
  IN need = 0 \/ Applied(l, o) >= need

Diverged(p, l) == \E o \in Origins : Applied(l, o) > knows[p][o]

Has(l, o, n) == n = 0 \/ (IF n <= Len(l) THEN l[n] = o ELSE FALSE)
Misses(c, l) ==
  (IF \E o \in Origins : ~Has(l, o, mine[c][o]) THEN {"NoSilentLoss"} ELSE {})
  \cup (IF \E o \in Origins : ~Has(l, o, Min(saw[c][o], End(o))) THEN {"CausalReads"} ELSE {})

Init ==
  /\ leader = 0 /\ log = [x \in Servers |-> <<1>>]
  /\ num = [x \in Servers |-> IF x = 0 THEN 1 ELSE 0]
  /\ knows = [p \in Processes |-> Unknown] /\ noted = knows
  /\ own = [c \in Sessions |-> Nothing] /\ seen = own /\ mine = own /\ saw = own
  /\ writing = [c \in Sessions |-> << >>] /\ broken = {}

\* Of the writes under way, those of which the session has learned more; and those that a server gives up when it numbers nothing more.
Moved(c)   == [writing EXCEPT ![c] = IF @ = << >> THEN @ ELSE <<@[1], @[2], TRUE>>]
Dropped(x) == [c \in Sessions |-> IF writing[c] # << >> /\ IF writing[c] # << >> THEN writing[c][2] = x ELSE FALSE THEN << >> ELSE writing[c]]

\* The session is told, by a process, which own writes are lost, and accepts it.
Told(c, p) ==
  LET gone == Lost(c, p)
      accepted(f) == [o \in Origins |-> IF o \in gone /\ f[o] <= own[c][o] THEN Min(f[o], Stop(p, o)) ELSE f[o]]
  IN /\ MustHear(c, p)
     /\ own'     = [own EXCEPT ![c] = [o \in Origins |-> Min(@[o], Stop(p, o))]]
     /\ seen'    = [seen EXCEPT ![c] = accepted(@)]
     /\ mine'    = [mine EXCEPT ![c] = accepted(@)]
     /\ saw'     = [saw EXCEPT ![c] = accepted(@)]
     /\ writing' = Moved(c)
     /\ broken'  = broken \cup (IF \E o \in gone : own[c][o] <= End(o) THEN {"NoFalseLoss"} ELSE {})
     /\ UNCHANGED <<leader, log, num, knows, noted>>

Read(c, p, x) ==
  /\ ~MustHear(c, p) /\ Covers(c, p, log[x])
  /\ DIVERGED => ~Diverged(p, log[x])
  /\ seen'    = [seen EXCEPT ![c] = Join(@, Shown(log[x]))]
  /\ saw'     = [saw EXCEPT ![c] = Join(@, Shown(log[x]))]
  /\ writing' = IF seen' = seen THEN writing ELSE Moved(c)
  /\ broken'  = broken \cup Misses(c, log[x]) \cup (IF Diverged(p, log[x]) THEN {"KnownSurvivors"} ELSE {})
  /\ UNCHANGED <<leader, log, num, knows, noted, own, mine>>

\* A write is admitted at whoever says that it numbers something...
Begin(c, p, x) ==
  /\ c < Writers /\ writing[c] = << >> /\ num[x] # 0 /\ Len(log[x]) < Length
  /\ GATED_WRITES => ~MustHear(c, p) /\ Covers(c, p, log[x])
  /\ REPLACED => knows[p][num[x]] = Live
  /\ writing' = [writing EXCEPT ![c] = <<p, x, FALSE>>]
  /\ broken'  = IF knows[p][num[x]] # Live THEN broken \cup {"NotLostFromTheStart"} ELSE broken
  /\ UNCHANGED <<leader, log, num, knows, noted, own, seen, mine, saw>>

\* ... and committed there, whatever has become known since: only what the session has learned itself is judged anew.
Commit(c) ==
  /\ writing[c] # << >>
  /\ LET p == writing[c][1]
         x == writing[c][2]
         n == Len(log[x]) + 1
     IN /\ n <= Length
        /\ (AGAIN /\ writing[c][3]) => ~MustHear(c, p) /\ Covers(c, p, log[x])
        /\ log'    = [log EXCEPT ![x] = Append(@, num[x])]
        /\ own'    = [own EXCEPT ![c][num[x]] = n]
        /\ mine'   = [mine EXCEPT ![c][num[x]] = n]
        /\ broken' = broken \cup Misses(c, log[x])
  /\ writing' = [writing EXCEPT ![c] = << >>]
  /\ UNCHANGED <<leader, num, knows, noted, seen, saw>>

\* A process asks a server, and believes what it says of ends, for good.
Ask(p, x) ==
  /\ knows' = [knows EXCEPT ![p] = [o \in Origins |-> Min(@[o], Tells(log[x], o))]]
  /\ knows' # knows
  /\ UNCHANGED <<leader, log, num, noted, own, seen, mine, saw, writing, broken>>

Note(p, x) ==
  /\ ~ASKED_AFTER /\ num[x] # 0
  /\ noted' = [noted EXCEPT ![p][num[x]] = Applied(log[x], num[x])]
  /\ UNCHANGED <<leader, log, num, knows, own, seen, mine, saw, writing, broken>>

\* A server that follows copies. One that was replaced hears of it by that, and gives up what it was writing.
Replicate(x) ==
  /\ x = Follower /\ IsPrefix(log[x], log[leader]) /\ log[x] # log[leader]
  /\ log' = [log EXCEPT ![x] = SubSeq(log[leader], 1, Len(@) + 1)]
  /\ num' = [num EXCEPT ![x] = 0] /\ writing' = Dropped(x)
  /\ UNCHANGED <<leader, knows, noted, own, seen, mine, saw, broken>>

Rejoin(x) ==
  /\ x = Follower /\ ~IsPrefix(log[x], log[leader])
  /\ log' = [log EXCEPT ![x] = SubSeq(@, 1, CHOOSE n \in 0..Len(@) :
                /\ IsPrefix(SubSeq(@, 1, n), log[leader])
                /\ ~IsPrefix(SubSeq(@, 1, n + 1), log[leader]))]
  /\ num' = [num EXCEPT ![x] = 0] /\ writing' = Dropped(x)
  /\ UNCHANGED <<leader, knows, noted, own, seen, mine, saw, broken>>

Failover(x) ==
  /\ x = Follower /\ Newest <= Failovers
  /\ IsPrefix(log[x], log[leader]) /\ Applied(log[x], Newest) > 0
  /\ leader'  = x
  /\ log'     = [log EXCEPT ![x] = Append(@, Newest + 1)]
  /\ num'     = [num EXCEPT ![x] = Newest + 1, ![leader] = IF Fenced THEN 0 ELSE @]
  /\ writing' = IF Fenced THEN Dropped(leader) ELSE writing
  /\ UNCHANGED <<knows, noted, own, seen, mine, saw, broken>>

Fair ==
  \/ \E x \in Servers : Replicate(x) \/ Rejoin(x)
  \/ \E p \in Processes, x \in Servers : Ask(p, x)

Next ==
  \/ \E c \in Sessions, p \in Processes : Told(c, p) \/ \E x \in Servers : Read(c, p, x) \/ Begin(c, p, x)
  \/ \E c \in Sessions : Commit(c)
  \/ \E p \in Processes, x \in Servers : Note(p, x)
  \/ \E x \in Servers : Failover(x)
  \/ Fair

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair)

\* Whatever was acknowledged to a session is in every answer to it, and where it writes, unless it was told of its loss.
NoSilentLoss == "NoSilentLoss" \notin broken
CausalReads == "CausalReads" \notin broken
\* Only what is lost is said to be.
NoFalseLoss == "NoFalseLoss" \notin broken
\* No process shows a write past an end that it knows...
KnownSurvivors == "KnownSurvivors" \notin broken
\* ... or lets one in.
NotLostFromTheStart == "NotLostFromTheStart" \notin broken

\* If news travels, what is lost is said, by every process...
EveryLossIsSaid == []<>(\A c \in Sessions, p \in Processes : (\E o \in Origins : own[c][o] > End(o)) => MustHear(c, p))
\* ... and whoever has nothing to hear is served, wherever they ask.
EveryGateOpens == []<>(\A c \in Sessions, p \in Processes, x \in Servers :
  Lost(c, p) # {} \/ (Covers(c, p, log[x]) /\ ~Diverged(p, log[x])))
=============================================================================
