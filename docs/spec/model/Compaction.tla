----------------------------- MODULE Compaction -----------------------------
(***************************************************************************)
(* Tokens are made shorter, and admit nothing more for it: floors and      *)
(* leader marks, and the mark that stands for a token that could not be    *)
(* opened (the specification: compaction.md; token.md, on what cannot be   *)
(* opened).                                                                *)
(*                                                                         *)
(* One shard. Endpoints 0 and 1 take writes, each numbers an origin of its *)
(* own; endpoint 2, if it is there, only follows. Offsets are stamps: larger than anything  *)
(* that the endpoint has applied. An idle origin goes on to what its       *)
(* endpoint has seen of the other (a heartbeat). One of the two fails at   *)
(* some time, and its origin ends at what the most advanced survivor       *)
(* holds. One session, and others who write; whenever it likes, its token  *)
(* is compacted, or cannot be opened. (Time is in the stamps: an idle      *)
(* origin's clock goes on as far as there are any.)                        *)
(*                                                                         *)
(* Left out: the rung "aged" and how long a mark holds (Expiry);           *)
(* dependencies (Gate); which shards a mark leaves exact: there is one; a  *)
(* second failure, which may lose what was applied at one other endpoint   *)
(* only, and which a mark does not remember; of a token that cannot be     *)
(* opened nobody can say which writes were the session's own, so their     *)
(* loss is not told, and they count as seen.                               *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Offsets,         \* the largest
  Followers,       \* how many endpoints only follow: none, or endpoint 2
  FOLD_SEEN,       \* a floor folds what was seen, never own writes
  FLOOR_ENDS,      \* of an origin that has ended, a floor demands what survives
  LISTED,          \* an endpoint counts origins of which it has applied nothing, too
  MARK_ORIGINS,    \* a mark remembers the origins of own writes that may yet be lost
  MARK_CURRENT,    \* a mark is honoured where all heads are applied, asked after the request; not at any leader
  BEATS_ON,        \* an idle origin's heartbeats go on with its clock; FALSE: no further than what its endpoint has applied
  UNOPENABLE_MARK  \* what replaces a token that could not be opened has a mark

Origins   == 0..1
Endpoints == 0..1 + Followers
None      == Offsets + 1   \* the end of an origin that is live

VARIABLES
  applied, \* applied[e][o]: what an endpoint has of an origin; applied[o][o] is its head
  end,     \* end[o], or None
  own, seen, floor, mark, recall,  \* the token; `recall`: the origins that its mark remembers
  mine,    \* mine[o]: the session's own writes, but those whose loss it was told
  saw,     \* saw[o]: what it has seen
  broken

vars == <<applied, end, own, seen, floor, mark, recall, mine, saw, broken>>
world == <<applied, end>>
token == <<own, seen, floor, mark, recall>>

Max(a, b) == IF a >= b THEN a ELSE b
Min(a, b) == IF a <= b THEN a ELSE b
Join(f, g) == [o \in Origins |-> Max(f[o], g[o])]
Zero == [o \in Origins |-> 0]

Live(o)    == end[o] = None
Up(e)      == IF e = 2 THEN TRUE ELSE Live(e)
Clip(o, n) == Min(n, end[o])
Last(o)    == IF Live(o) THEN applied[o][o] ELSE end[o]
Elsewhere(o) == LET held == {0} \cup {applied[e][o] : e \in {x \in Endpoints : x # o /\ Up(x)}}
                IN CHOOSE n \in held : \A m \in held : n >= m

Init ==
  /\ applied = [e \in Endpoints |-> Zero]
  /\ end     = [o \in Origins |-> None]
  /\ own = Zero /\ seen = Zero /\ floor = 0 /\ mark = FALSE /\ recall = {}
  /\ mine = Zero /\ saw = Zero
  /\ broken = {}

\* --- the world --------------------------------------------------------------

Next1(o) == Max(applied[o][0], applied[o][1]) + 1

OtherWrites(o) ==
  /\ Live(o) /\ Next1(o) <= Offsets
  /\ applied' = [applied EXCEPT ![o][o] = Next1(o)]
  /\ UNCHANGED <<end, token, mine, saw, broken>>

Beat(o) ==
  LET heard == Next1(o) - 1
      stamp == IF heard > applied[o][o] THEN heard ELSE heard + 1
  IN /\ Live(o) /\ stamp <= Offsets /\ (BEATS_ON \/ stamp = heard)
     /\ applied' = [applied EXCEPT ![o][o] = stamp]
     /\ UNCHANGED <<end, token, mine, saw, broken>>

Apply(e, o) ==
  /\ Up(e) /\ applied[e][o] < Last(o)
  /\ applied' = [applied EXCEPT ![e][o] = Last(o)]
  /\ UNCHANGED <<end, token, mine, saw, broken>>

Fail(o) ==
  /\ \A p \in Origins : Live(p)
  /\ end' = [end EXCEPT ![o] = Elsewhere(o)]
  /\ UNCHANGED <<applied, token, mine, saw, broken>>

\* --- the gate ---------------------------------------------------------------

Lost  == \E o \in Origins : own[o] > end[o]
Doubt == mark /\ \E o \in recall : ~Live(o)

Exact(e)   == \A o \in Origins : applied[e][o] >= Max(own[o], Clip(o, seen[o]))
Floored(e) == \A o \in Origins : (LISTED \/ applied[e][o] > 0)
                => applied[e][o] >= (IF FLOOR_ENDS THEN Clip(o, floor) ELSE floor)
Current(e) == \A o \in Origins : applied[e][o] >= Last(o)
Marked(e)  == mark => IF MARK_CURRENT THEN Current(e) ELSE e # 2

Admitted(e) == Up(e) /\ ~Lost /\ ~Doubt /\ Exact(e) /\ Floored(e) /\ Marked(e)

Judged(e) ==
  broken' = broken
    \cup (IF \E o \in Origins : applied[e][o] < Clip(o, Max(mine[o], saw[o])) THEN {"NothingMissed"} ELSE {})
    \cup (IF \E o \in Origins : mine[o] > end[o] THEN {"LossIsTold"} ELSE {})

Read(e) ==
  /\ Admitted(e)
  /\ Judged(e)
  /\ seen' = [o \in Origins |-> IF applied[e][o] > own[o] THEN Max(seen[o], applied[e][o]) ELSE seen[o]]
  /\ saw'  = Join(saw, applied[e])
  /\ UNCHANGED <<world, own, floor, mark, recall, mine>>

Write(o) ==
  /\ Admitted(o) /\ Next1(o) <= Offsets
  /\ Judged(o)
  /\ applied' = [applied EXCEPT ![o][o] = Next1(o)]
  /\ own'     = [own EXCEPT ![o] = Next1(o)]
  /\ mine'    = [mine EXCEPT ![o] = Next1(o)]
  /\ seen'    = [seen EXCEPT ![o] = 0]
  /\ UNCHANGED <<end, floor, mark, recall, saw>>

\* The session is told what is lost or in doubt, and accepts it.
Told ==
  /\ Lost \/ Doubt
  /\ own'    = [o \in Origins |-> Clip(o, own[o])]
  /\ recall' = {o \in recall : Live(o)}
  /\ mine'   = [o \in Origins |-> IF own[o] > end[o] \/ (Doubt /\ o \in recall) THEN Clip(o, mine[o]) ELSE mine[o]]
  /\ UNCHANGED <<world, seen, floor, mark, saw, broken>>

\* --- the ladder -------------------------------------------------------------

Fold(bound) ==
  LET folded == {o \in Origins : seen[o] > 0 /\ seen[o] <= bound}
      mined  == IF FOLD_SEEN THEN {} ELSE {o \in Origins : own[o] > 0 /\ own[o] <= bound}
      tops   == {seen[o] : o \in folded} \cup {own[o] : o \in mined}
  IN /\ tops # {}
     /\ floor' = Max(floor, CHOOSE n \in tops : \A m \in tops : n >= m)
     /\ seen'  = [o \in Origins |-> IF o \in folded THEN 0 ELSE seen[o]]
     /\ own'   = [o \in Origins |-> IF o \in mined THEN 0 ELSE own[o]]
     /\ UNCHANGED <<world, mark, recall, mine, saw, broken>>

Mark ==
  /\ ~mark
  /\ own # Zero \/ seen # Zero
  /\ mark'   = TRUE
  /\ recall' = recall \cup (IF MARK_ORIGINS THEN {o \in Origins : own[o] > Elsewhere(o)} ELSE {})
  /\ own' = Zero /\ seen' = Zero
  /\ UNCHANGED <<world, floor, mine, saw, broken>>

\* One that has a mark already would be replaced by less than it demands, with the same mark.
Unopenable ==
  /\ ~mark
  /\ own # Zero \/ seen # Zero \/ floor > 0
  /\ mark' = UNOPENABLE_MARK
  /\ own' = Zero /\ seen' = Zero /\ floor' = 0 /\ recall' = {}
  /\ mine' = Zero /\ saw' = Join(saw, mine)
  /\ UNCHANGED <<world, broken>>

Next ==
  \/ \E o \in Origins : OtherWrites(o) \/ Beat(o) \/ Fail(o) \/ Write(o)
  \/ \E e \in Endpoints, o \in Origins : Apply(e, o)
  \/ \E e \in Endpoints : Read(e)
  \/ \E bound \in 1..Offsets : Fold(bound)
  \/ Told \/ Mark \/ Unopenable

Fair == Told \/ (\E e \in Endpoints, o \in Origins : Apply(e, o)) \/ (\E o \in Origins : Beat(o))

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair)

\* Whatever a token once demanded, and survives, is in every snapshot that it admits.
NothingMissed == "NothingMissed" \notin broken
\* No operation succeeds after an own write was lost, unless that was told.
LossIsTold == "LossIsTold" \notin broken
\* Where everything that survives is applied, and heartbeats have passed the floor, a read is admitted, or told of a loss.
NothingPoisoned ==
  \A e \in Endpoints :
    (Up(e) /\ Current(e) /\ ~Lost /\ ~Doubt /\ \A o \in Origins : Live(o) => applied[o][o] >= floor) => Admitted(e)
\* Under fair replication, and heartbeats, a session that accepts its losses is, again and again, served wherever it asks.
EveryGateOpens == []<>(\A e \in Endpoints : Up(e) => Admitted(e))
=============================================================================
