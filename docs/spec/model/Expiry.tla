------------------------------- MODULE Expiry -------------------------------
(***************************************************************************)
(* Tokens age out, and nothing weakens: what a token no longer demands is  *)
(* applied wherever a read is allowed (the specification: gate.md, on      *)
(* freshness; token.md, on expiry).                                        *)
(*                                                                         *)
(* Time passes in whole units. Two processes have wall clocks that differ  *)
(* by at most Skew; each process has a local clock of its own, which       *)
(* measures time that has passed and is compared with nobody's. One writes *)
(* at the leader, and gives the token its expiry by its wall clock; either *)
(* drops it by its own wall clock. Process 0 reads at a replica. It serves *)
(* from it if the replica covers the token, and is shown to be fresh:      *)
(* process 0 asks the leader for its head, notes when, and the replica has *)
(* applied that head.                                                      *)
(*                                                                         *)
(* Left out: a leader that was deposed and does not know it (a hazard of   *)
(* the specification, not a case that it solves), several origins and      *)
(* shards (Compaction), ages of single entries: the token has one.         *)
(***************************************************************************)
EXTENDS Integers

CONSTANTS
  Time, Writes,     \* how long it goes on, and how much is written
  Staleness, Skew,  \* the bounds of the configuration
  LONG_TTL,         \* token_ttl > max_staleness + max_clock_skew; if not, it is exactly as long
  PROVEN,           \* only a replica that is shown to be fresh is read
  AT_QUESTION,      \* evidence counts from when the leader was asked, not from when its answer came
  COUNTS_SUSPEND    \* the local clock goes on while the process sleeps

Ttl == Staleness + Skew + IF LONG_TTL THEN 1 ELSE 0
Processes == 0..1
None == -1
NoSample == <<None, 0>>

VARIABLES
  now,      \* the time, which nobody knows
  ahead,    \* how far the wall clock of process 1 is ahead of process 0's
  local,    \* the local clock of process 0
  head,     \* what the leader has written
  applied,  \* what the replica has of it
  token,    \* what the session demands; 0: its token has expired, or there was none
  expires,  \* when, by the wall clock of whoever looks
  wrote,    \* the session's last own write
  asked,    \* NoSample, or <<local time of the question, head in the answer on its way>>
  sample,   \* NoSample, or <<local time that counts, head>>: the evidence
  broken

vars == <<now, ahead, local, head, applied, token, expires, wrote, asked, sample, broken>>

Wall(p) == now + IF p = 1 THEN ahead ELSE 0

Init ==
  /\ now = 0 /\ local = 0 /\ head = 0 /\ applied = 0 /\ token = 0 /\ expires = 0 /\ wrote = 0
  /\ ahead \in (-Skew)..Skew
  /\ asked = NoSample /\ sample = NoSample
  /\ broken = FALSE

Tick(suspended) ==
  /\ now < Time
  /\ now'   = now + 1
  /\ local' = IF suspended THEN local ELSE local + 1
  /\ UNCHANGED <<ahead, head, applied, token, expires, wrote, asked, sample, broken>>

\* By the session, at process p.
Write(p) ==
  /\ head < Writes
  /\ head'    = head + 1
  /\ token'   = head + 1
  /\ wrote'   = head + 1
  /\ expires' = Wall(p) + Ttl
  /\ UNCHANGED <<now, ahead, local, applied, asked, sample, broken>>

Apply ==
  /\ applied < head
  /\ applied' = applied + 1
  /\ UNCHANGED <<now, ahead, local, head, token, expires, wrote, asked, sample, broken>>

Drop(p) ==
  /\ token > 0
  /\ Wall(p) >= expires
  /\ token' = 0 /\ expires' = 0
  /\ UNCHANGED <<now, ahead, local, head, applied, wrote, asked, sample, broken>>

\* The leader reads its head as soon as it is asked: later is better.
Ask ==
  /\ asked = NoSample
  /\ asked' = <<local, head>>
  /\ UNCHANGED <<now, ahead, local, head, applied, token, expires, wrote, sample, broken>>

Answer ==
  /\ asked # NoSample
  /\ sample' = <<IF AT_QUESTION THEN asked[1] ELSE local, asked[2]>>
  /\ asked'  = NoSample
  /\ UNCHANGED <<now, ahead, local, head, applied, token, expires, wrote, broken>>

Shown == sample # NoSample /\ applied >= sample[2] /\ local - sample[1] <= Staleness

Read ==
  /\ applied >= token
  /\ PROVEN => Shown
  /\ token' = IF token > 0 /\ applied > token THEN applied ELSE token
  /\ broken' = (broken \/ applied < wrote)
  /\ UNCHANGED <<now, ahead, local, head, applied, expires, wrote, asked, sample>>

Next ==
  \/ Tick(FALSE)
  \/ ~COUNTS_SUSPEND /\ Tick(TRUE)
  \/ \E p \in Processes : Write(p) \/ Drop(p)
  \/ Apply \/ Ask \/ Answer \/ Read

Spec == Init /\ [][Next]_vars

ReadYourWrites == ~broken
=============================================================================
