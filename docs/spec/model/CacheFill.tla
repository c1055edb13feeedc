----------------------------- MODULE CacheFill -----------------------------
(***************************************************************************)
(* A cache beside replicas that lag: entries carry the watermark of the    *)
(* snapshot that they were read from, hits are gated like reads, and the   *)
(* entry that knows more stays (the specification: gate.md, where hits are *)
(* served; guarantees.md).                                                 *)
(*                                                                         *)
(* One key, in one shard with one origin. Write number n makes the value   *)
(* n. A session that finds nothing to be used in the cache reads at a      *)
(* replica, and stores what it read, perhaps much later: between the two   *)
(* anybody may write, and invalidate. An invalidation leaves a tombstone   *)
(* with the position of the write; it may come late, or never. An entry    *)
(* may vanish at any time.                                                 *)
(*                                                                         *)
(* Left out: several shards and origins, histories that end (an entry of   *)
(* one that has ended before it is dead: Failover), how long an entry may  *)
(* be served (Expiry), writing through, flights that share one load,       *)
(* filters of what a session's own writes touched.                         *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Writes,           \* how many there are
  SNAPSHOT_MARK,    \* an entry's watermark is that of the snapshot it was read from, not one asked for later
  COMPARE_AND_SET,  \* an entry that knows more is not replaced by one that knows less
  KNOWING_STAYS,    \* an invalidation leaves an entry that knows of its write
  GATED_HITS,       \* a hit is served only where its watermark covers the session
  HITS_JOIN         \* what a hit showed joins the session

Sessions == 0..1
Replicas == 0..1
Nothing  == <<"nothing", 0, 0>>
Idle     == <<2, 0>>   \* of no replica

VARIABLES
  head,    \* how many writes the leader has taken
  applied, \* applied[r]: how many of them a replica has
  cache,   \* Nothing, <<"value", watermark, value>> or <<"tombstone", watermark, 0>>
  sent,    \* the writes whose invalidation is still on its way
  token,   \* token[c]: what a session demands
  known,   \* known[c]: the newest value that it has written or been shown
  filling, \* filling[c]: Idle, or <<replica, what the snapshot showed>>
  broken

vars == <<head, applied, cache, sent, token, known, filling, broken>>

Max(a, b) == IF a >= b THEN a ELSE b

Init ==
  /\ head    = 0
  /\ applied = [r \in Replicas |-> 0]
  /\ cache   = Nothing
  /\ sent    = {}
  /\ token   = [c \in Sessions |-> 0]
  /\ known   = [c \in Sessions |-> 0]
  /\ filling = [c \in Sessions |-> Idle]
  /\ broken  = {}

Write(c) ==
  /\ head < Writes /\ filling[c] = Idle
  /\ head'  = head + 1
  /\ token' = [token EXCEPT ![c] = head + 1]
  /\ known' = [known EXCEPT ![c] = head + 1]
  /\ sent'  = sent \cup {head + 1}
  /\ UNCHANGED <<applied, cache, filling, broken>>

Apply(r) ==
  /\ applied[r] < head
  /\ applied' = [applied EXCEPT ![r] = @ + 1]
  /\ UNCHANGED <<head, cache, sent, token, known, filling, broken>>

\* Left where the write is not known yet: an entry that shows it, or more, stays.
Invalidate(n) ==
  /\ n \in sent
  /\ sent'   = sent \ {n}
  /\ cache'  = IF cache[2] >= n /\ KNOWING_STAYS THEN cache ELSE <<"tombstone", n, 0>>
  /\ broken' = broken \cup (IF cache # cache' /\ cache[1] = "value" /\ cache[3] >= n THEN {"NothingThrownAway"} ELSE {})
  /\ UNCHANGED <<head, applied, token, known, filling>>

Forget(n) ==
  /\ n \in sent
  /\ sent' = sent \ {n}
  /\ UNCHANGED <<head, applied, cache, token, known, filling, broken>>

Evict ==
  /\ cache # Nothing
  /\ cache' = Nothing
  /\ UNCHANGED <<head, applied, sent, token, known, filling, broken>>

\* What is shown to a session; the value n is the state after n writes.
Shown(c, value, mark, joins) ==
  /\ token'  = [token EXCEPT ![c] = IF joins THEN Max(@, mark) ELSE @]
  /\ known'  = [known EXCEPT ![c] = Max(@, value)]
  /\ broken' = broken \cup (IF value < known[c] THEN {"NeverBack"} ELSE {})

Hit(c) ==
  /\ filling[c] = Idle
  /\ cache[1] = "value"
  /\ GATED_HITS => cache[2] >= token[c]
  /\ Shown(c, cache[3], cache[2], HITS_JOIN)
  /\ UNCHANGED <<head, applied, cache, sent, filling>>

\* Whether the cache was asked before does not matter: it may have lost what it held.
Read(c, r) ==
  /\ filling[c] = Idle
  /\ applied[r] >= token[c]
  /\ Shown(c, applied[r], applied[r], TRUE)
  /\ filling' = [filling EXCEPT ![c] = <<r, applied[r]>>]
  /\ UNCHANGED <<head, applied, cache, sent>>

Store(c) ==
  /\ filling[c] # Idle
  /\ LET r    == filling[c][1]
         mark == IF SNAPSHOT_MARK THEN filling[c][2] ELSE applied[r]
         less == cache # Nothing /\ cache[2] > mark
     IN /\ cache'  = IF less /\ COMPARE_AND_SET THEN cache ELSE <<"value", mark, filling[c][2]>>
        /\ broken' = broken \cup (IF less /\ ~COMPARE_AND_SET THEN {"NewerStays"} ELSE {})
  /\ filling' = [filling EXCEPT ![c] = Idle]
  /\ UNCHANGED <<head, applied, sent, token, known>>

\* What was read is not stored after all.
Leave(c) ==
  /\ filling[c] # Idle
  /\ filling' = [filling EXCEPT ![c] = Idle]
  /\ UNCHANGED <<head, applied, cache, sent, token, known, broken>>

Next ==
  \/ \E c \in Sessions : Write(c) \/ Hit(c) \/ Store(c) \/ Leave(c)
  \/ \E c \in Sessions, r \in Replicas : Read(c, r)
  \/ \E r \in Replicas : Apply(r)
  \/ \E n \in sent : Invalidate(n) \/ Forget(n)
  \/ Evict

Spec == Init /\ [][Next]_vars

\* No session is shown a value older than one that it has written or been shown.
NeverBack == "NeverBack" \notin broken
\* What a tombstone or a newer value has replaced does not come back while that is there: users who demand nothing see it go.
NewerStays == "NewerStays" \notin broken
\* What shows a write already is not thrown away for it: an invalidation that comes late empties no cache that was filled since.
NothingThrownAway == "NothingThrownAway" \notin broken
\* An entry shows exactly the state that its watermark names.
EntriesAreTrue == cache[1] = "value" => cache[2] = cache[3]
=============================================================================
