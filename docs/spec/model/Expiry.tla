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
(* Liveness asks that time goes on to its end, that questions are asked    *)
(* and answered, and that the replica applies what there is. A leader may  *)
(* die with what nobody else has of it: then only expiry helps. (That the  *)
(* loss is told is Failover's; here the new leader goes on, and nothing    *)
(* more is written.)                                                       *)
(*                                                                         *)
(* Left out: a leader that was deposed and does not know it (a hazard of   *)
(* the specification, not a case that it solves), several origins and      *)
(* shards (Compaction), ages of single entries: the token has one.         *)
(***************************************************************************)
EXTENDS Integers

CONSTANTS
  Time, Writes,     \* how long it goes on, and how much is written
  Deaths,           \* whether the leader may die
  Staleness, Skew,  \* the bounds of the configuration
  LONG_TTL,         \* token_ttl > max_staleness + max_clock_skew; if not, it is exactly as long
  PROVEN,           \* only a replica that is shown to be fresh is read
  AT_QUESTION,      \* evidence counts from when the leader was asked, not from when its answer came
  COUNTS_SUSPEND,   \* the local clock goes on while the process sleeps
  ASKS_AGAIN,       \* the leader is asked whether or not there is evidence; FALSE: only where there is none yet
  EXPIRES           \* a token is dropped when it has expired

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
  dead,     \* whether the leader has died
  broken

vars == <<now, ahead, local, head, applied, token, expires, wrote, asked, sample, dead, broken>>

Wall(p) == now + IF p = 1 THEN ahead ELSE 0

Init ==
  /\ now = 0 /\ local = 0 /\ head = 0 /\ applied = 0 /\ token = 0 /\ expires = 0 /\ wrote = 0
  /\ ahead \in (-Skew)..Skew
  /\ asked = NoSample /\ sample = NoSample
  /\ dead = FALSE /\ broken = FALSE

Tick(suspended) ==
  /\ now < Time
  /\ now'   = now + 1
  /\ local' = IF suspended THEN local ELSE local + 1
  /\ UNCHANGED <<ahead, head, applied, token, expires, wrote, asked, sample, dead, broken>>

Least(a, b) == IF a <= b THEN a ELSE b

\* By the session, at process p. Where the leader may die, it is early enough to expire within the time that there is.
Write(p) ==
  /\ head < Writes /\ ~dead
  /\ Deaths => now + Ttl + Skew <= Time
  /\ head'    = head + 1
  /\ token'   = head + 1
  /\ wrote'   = head + 1
  /\ expires' = Wall(p) + Ttl
  /\ UNCHANGED <<now, ahead, local, applied, asked, sample, dead, broken>>

\* The replica leads from now on. What it has not is lost, and the session is told so.
Die ==
  /\ Deaths /\ ~dead /\ applied < head
  /\ dead' = TRUE
  /\ head' = applied /\ wrote' = Least(wrote, applied)
  /\ UNCHANGED <<now, ahead, local, applied, token, expires, asked, sample, broken>>

Apply ==
  /\ applied < head
  /\ applied' = applied + 1
  /\ UNCHANGED <<now, ahead, local, head, token, expires, wrote, asked, sample, dead, broken>>

Drop(p) ==
  /\ token > 0 /\ EXPIRES
  /\ Wall(p) >= expires
  /\ token' = 0 /\ expires' = 0
  /\ UNCHANGED <<now, ahead, local, head, applied, wrote, asked, sample, dead, broken>>

\* The leader reads its head as soon as it is asked: later is better.
Ask ==
  /\ asked = NoSample /\ (ASKS_AGAIN \/ sample = NoSample)
  /\ asked' = <<local, head>>
  /\ UNCHANGED <<now, ahead, local, head, applied, token, expires, wrote, sample, dead, broken>>

Answer ==
  /\ asked # NoSample
  /\ sample' = <<IF AT_QUESTION THEN asked[1] ELSE local, asked[2]>>
  /\ asked'  = NoSample
  /\ UNCHANGED <<now, ahead, local, head, applied, token, expires, wrote, dead, broken>>

Shown == sample # NoSample /\ applied >= sample[2] /\ local - sample[1] <= Staleness

Open == applied >= token /\ (PROVEN => Shown)

Read ==
  /\ Open
  /\ token' = IF token > 0 /\ applied > token THEN applied ELSE token
  /\ broken' = (broken \/ applied < wrote)
  /\ UNCHANGED <<now, ahead, local, head, applied, expires, wrote, asked, sample, dead>>

Next ==
  \/ Tick(FALSE)
  \/ ~COUNTS_SUSPEND /\ Tick(TRUE)
  \/ \E p \in Processes : Write(p) \/ Drop(p)
  \/ Die \/ Apply \/ Ask \/ Answer \/ Read

Fair == Tick(FALSE) \/ Apply \/ \E p \in Processes : Drop(p)

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too; but questions go on and on.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair) /\ WF_vars(Ask \/ Answer)

ReadYourWrites == ~broken

\* However old tokens and evidence get, a read is, again and again, allowed.
EveryGateOpens == []<>Open
=============================================================================
