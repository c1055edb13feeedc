-------------------------------- MODULE Gate --------------------------------
(***************************************************************************)
(* The read gate, and versions that carry dependencies (gate.md,           *)
(* guarantees.md; the token's join of frontier.md).                        *)
(*                                                                         *)
(* Two shards, each with its own log and two replicas that apply it in     *)
(* order, each at its own pace. Two sessions. A session's token demands,   *)
(* of each shard, an offset; a replica serves a read of its shard when it  *)
(* has applied that much. A version stores its writer's token, joined with *)
(* what the versions before it in its log store; a reader joins that.      *)
(*                                                                         *)
(* Left out: failover and lost writes (Failover), several origins          *)
(* (Compaction, Trace), age and staleness (Expiry), what a token drops     *)
(* (Compaction), keys: a shard is one state, and a read of it shows all    *)
(* that a prefix of its log wrote. One origin a shard, so a position is a  *)
(* shard and an offset.                                                    *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS
  PerShard, InAll,      \* how many writes there are, for a shard and in all
  GATE,                 \* a read waits until the replica covers the token
  MERGE,                \* a version stores its writer's token, readers join it
  ACK_JOIN,             \* the acknowledgement returns what was stored; the writer joins it
  WATERMARK_FIRST,      \* the watermark is taken no later than the snapshot
  TOKEN_FROM_SNAPSHOT,  \* the token joins what was read, not the watermark that passed the gate
  COMMITTED,            \* the token joins a write's position once it is committed, and no sooner
  Split,                \* a read takes two steps: (TRUE) watermark, then snapshot; (FALSE) both at once
  Strict,               \* what is before a write in its log counts as its writer's past (causal memory, CM)
  History               \* keep account of a session's own writes and reads apart from its causal past

Sessions == 0..1
Shards   == 0..1
Replicas == 0..1

VARIABLES
  log,      \* log[s]: the versions of a shard; `dep` is stored with each, `cause` is its true causal past
  applied,  \* applied[s][r]: how much of its shard's log a replica has applied
  token,    \* token[c][s]: what a session demands
  past,     \* past[c][s]: its true causal past; like `cause`, known to nobody
  wrote,    \* wrote[c][s]: its last own write
  shown,    \* shown[c][s]: the most that any of its reads has shown
  reading,  \* reading[c]: <<>>, or <<shard, replica, what was noted when the read began>>
  broken    \* the guarantees that some read has broken

vars == <<log, applied, token, past, wrote, shown, reading, broken>>

Max(a, b)  == IF a >= b THEN a ELSE b
Join(f, g) == [s \in Shards |-> Max(f[s], g[s])]
Nothing    == [s \in Shards |-> 0]
At(s, n)   == [Nothing EXCEPT ![s] = n]

Init ==
  /\ log     = [s \in Shards |-> << >>]
  /\ applied = [s \in Shards |-> [r \in Replicas |-> 0]]
  /\ token   = [c \in Sessions |-> Nothing]
  /\ past    = [c \in Sessions |-> Nothing]
  /\ wrote   = [c \in Sessions |-> Nothing]
  /\ shown   = [c \in Sessions |-> Nothing]
  /\ reading = [c \in Sessions |-> << >>]
  /\ broken  = {}

Write(c, s) ==
  LET n      == Len(log[s]) + 1
      before == IF n = 1 THEN [dep |-> Nothing, cause |-> Nothing] ELSE log[s][n - 1]
      mine   == [token[c] EXCEPT ![s] = n]
      truth  == [past[c] EXCEPT ![s] = n]
      stored == IF MERGE THEN Join(mine, before.dep) ELSE At(s, n)
      cause  == Join(truth, before.cause)
  IN /\ reading[c] = << >>
     /\ n <= PerShard
     /\ Len(log[0]) + Len(log[1]) < InAll
     /\ log'   = [log EXCEPT ![s] = Append(@, [dep |-> stored, cause |-> cause])]
     /\ token' = [token EXCEPT ![c] = IF ACK_JOIN THEN Join(mine, stored) ELSE mine]
     /\ past'  = [past EXCEPT ![c] = IF Strict THEN cause ELSE truth]
     /\ wrote' = IF History THEN [wrote EXCEPT ![c][s] = n] ELSE wrote
     /\ UNCHANGED <<applied, shown, reading, broken>>

\* A write that comes to nothing. One session and one shard will do: what it leaves in the token is all that matters.
Abort ==
  /\ ~COMMITTED /\ reading[1] = << >>
  /\ token' = [token EXCEPT ![1][1] = Len(log[1]) + 1]
  /\ UNCHANGED <<log, applied, past, wrote, shown, reading, broken>>

Apply(s, r) ==
  /\ applied[s][r] < Len(log[s])
  /\ applied' = [applied EXCEPT ![s][r] = @ + 1]
  /\ UNCHANGED <<log, token, past, wrote, shown, reading, broken>>

\* The read of c is answered with the first `seen` versions of s; the token joins the first `joined`.
Served(c, s, seen, joined) ==
  LET stored == IF joined = 0 \/ ~MERGE THEN Nothing ELSE log[s][joined].dep
      cause  == IF seen = 0 THEN Nothing ELSE log[s][seen].cause
  IN /\ token'  = [token EXCEPT ![c] = Join(@, [stored EXCEPT ![s] = joined])]
     /\ past'   = [past EXCEPT ![c] = Join(@, [cause EXCEPT ![s] = seen])]
     /\ shown'  = IF History THEN [shown EXCEPT ![c][s] = Max(@, seen)] ELSE shown
     /\ broken' = broken \cup (IF seen < wrote[c][s] THEN {"ReadYourWrites"} ELSE {})
                         \cup (IF seen < shown[c][s] THEN {"MonotonicReads"} ELSE {})
                         \cup (IF seen < past[c][s]  THEN {"CausalReads"} ELSE {})
     /\ UNCHANGED <<log, applied, wrote>>

Covers(c, s, r) == applied[s][r] >= token[c][s]

Read(c, s, r) ==
  /\ ~Split
  /\ GATE => Covers(c, s, r)
  /\ Served(c, s, applied[s][r], applied[s][r])
  /\ UNCHANGED reading

\* What a read notes when it begins is the watermark; or, the wrong way round, the snapshot.
Begin(c, s, r) ==
  /\ Split /\ reading[c] = << >>
  /\ (WATERMARK_FIRST /\ GATE) => Covers(c, s, r)
  /\ reading' = [reading EXCEPT ![c] = <<s, r, applied[s][r]>>]
  /\ UNCHANGED <<log, applied, token, past, wrote, shown, broken>>

End(c) ==
  /\ reading[c] # << >>
  /\ LET s == reading[c][1]
         r == reading[c][2]
         noted == reading[c][3]
         now == applied[s][r]
     IN IF WATERMARK_FIRST
        THEN Served(c, s, now, IF TOKEN_FROM_SNAPSHOT THEN now ELSE noted)
        ELSE Covers(c, s, r) /\ Served(c, s, noted, noted)
  /\ reading' = [reading EXCEPT ![c] = << >>]

Next ==
  \/ \E c \in Sessions, s \in Shards : Write(c, s)
  \/ \E c \in Sessions, s \in Shards, r \in Replicas : Read(c, s, r) \/ Begin(c, s, r)
  \/ \E c \in Sessions : End(c)
  \/ \E s \in Shards, r \in Replicas : Apply(s, r)
  \/ Abort

Spec == Init /\ [][Next]_vars /\ \A s \in Shards, r \in Replicas : WF_vars(Apply(s, r))

ReadYourWrites == "ReadYourWrites" \notin broken
MonotonicReads == "MonotonicReads" \notin broken
CausalReads    == "CausalReads" \notin broken

\* Under fair replication, whatever a session demands is, again and again, applied everywhere.
EveryGateOpens == \A c \in Sessions, s \in Shards, r \in Replicas : []<>Covers(c, s, r)
=============================================================================
