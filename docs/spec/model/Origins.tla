------------------------------- MODULE Origins -------------------------------
(***************************************************************************)
(* Several live origins on one shard (gate.md, leader reads; failover.md,  *)
(* the verdict UNKNOWN).                                                   *)
(*                                                                         *)
(* Three sites hold the same shard, and each that takes writes numbers its *)
(* own. Two of them (0, 1) are members from the start, the third joins: it *)
(* may take writes while the members do not list its origin yet, or only   *)
(* after that. Origins are shipped from their own site, in order. Two      *)
(* sessions write, read by their tokens, and read at the leaders: that is, *)
(* ask for heads first, then read wherever all of them are applied.        *)
(*                                                                         *)
(* Left out: failover and loss (Failover), dependencies (Gate): a token    *)
(* has what its session wrote and saw. Sites that do not answer. A head of *)
(* 0 asks nothing here; the gate waits until the origin is listed.         *)
(***************************************************************************)
EXTENDS Naturals

CONSTANTS
  PerOrigin,  \* writes of each site
  Strong,     \* whether there are leader reads
  ASK_ALL,    \* a leader read asks the head of every origin that is listed; FALSE: it asks one leader for all that it has
  ASK_AFTER,  \* and asks after the request came; FALSE: it uses what was noted at any time
  UNKNOWN,    \* a site that does not list a demanded origin is not read; FALSE: what it does not list does not count
  LISTED,      \* a site takes writes only when all members list its origin
  ANNOUNCED,   \* who joins is told to all members, in the end; FALSE: to one
  GATED_WRITES \* a site takes a session's write only if it covers what the session demands

Sites    == 0..2
Members  == 0..1
Sessions == 0..1

VARIABLES
  have,    \* have[x][o]: how much of o's origin is applied at site x; have[o][o] is its head
  listed,  \* the members that list the third site's origin; it lists all
  token,   \* token[c][o]: what a session demands
  noted,   \* the heads that were noted some time
  asked,   \* asked[c]: the leader read of a session: <<>>, or <<the heads it gates on, those of all sites when it came>>
  broken

vars == <<have, listed, token, noted, asked, broken>>

Max(a, b)  == IF a >= b THEN a ELSE b
Join(f, g) == [o \in Sites |-> Max(f[o], g[o])]
Nothing    == [o \in Sites |-> 0]
Heads      == [o \in Sites |-> have[o][o]]

Lists(x, o) == o # 2 \/ x = 2 \/ x \in listed
Covers(x, f) == \A o \in Sites :
  f[o] = 0 \/ (IF Lists(x, o) THEN have[x][o] >= f[o] ELSE ~UNKNOWN)
Less(f, g) == \E o \in Sites : f[o] < g[o]

Init ==
  /\ have = [x \in Sites |-> Nothing] /\ listed = {}
  /\ token = [c \in Sessions |-> Nothing] /\ noted = Nothing
  /\ asked = [c \in Sessions |-> << >>] /\ broken = {}

Write(c, x) ==
  /\ asked[c] = << >> /\ have[x][x] < PerOrigin
  /\ GATED_WRITES => Covers(x, token[c])
  /\ (x = 2 /\ LISTED) => listed = Members
  /\ have'  = [have EXCEPT ![x][x] = @ + 1]
  /\ token' = [token EXCEPT ![c][x] = have[x][x] + 1]
  /\ broken' = IF Less(have[x], token[c]) THEN broken \cup {"SessionWrites"} ELSE broken
  /\ UNCHANGED <<listed, noted, asked>>

Ship(x, o) ==
  /\ Lists(x, o) /\ have[x][o] < have[o][o]
  /\ have' = [have EXCEPT ![x][o] = @ + 1]
  /\ UNCHANGED <<listed, token, noted, asked, broken>>

List(x) ==
  /\ x \in Members \ listed /\ (ANNOUNCED \/ x = 0)
  /\ listed' = listed \cup {x}
  /\ UNCHANGED <<have, token, noted, asked, broken>>

Read(c, x) ==
  /\ asked[c] = << >> /\ Covers(x, token[c])
  /\ token'  = [token EXCEPT ![c] = Join(@, have[x])]
  /\ broken' = IF Less(have[x], token[c]) THEN broken \cup {"SessionReads"} ELSE broken
  /\ UNCHANGED <<have, listed, noted, asked>>

\* Heads of what some member lists: of another origin nobody knows.
Known == [o \in Sites |-> IF o # 2 \/ listed # {} THEN Heads[o] ELSE 0]

Note ==
  /\ ~ASK_AFTER
  /\ noted' = Known
  /\ UNCHANGED <<have, listed, token, asked, broken>>

Ask(c, x) ==
  /\ Strong /\ asked[c] = << >>
  /\ asked' = [asked EXCEPT ![c] = <<IF ~ASK_AFTER THEN noted ELSE IF ASK_ALL THEN Known ELSE have[x], Heads>>]
  /\ UNCHANGED <<have, listed, token, noted, broken>>

Answer(c, x) ==
  /\ asked[c] # << >> /\ Covers(x, Join(token[c], asked[c][1]))
  /\ token'  = [token EXCEPT ![c] = Join(@, have[x])]
  /\ asked'  = [asked EXCEPT ![c] = << >>]
  /\ broken' = broken \cup (IF Less(have[x], token[c]) THEN {"SessionReads"} ELSE {})
                      \cup (IF Less(have[x], asked[c][2]) THEN {"LeaderReads"} ELSE {})
  /\ UNCHANGED <<have, listed, noted>>

Fair ==
  \/ \E x, o \in Sites : Ship(x, o)
  \/ \E x \in Members : List(x)

Next ==
  \/ \E c \in Sessions, x \in Sites : Write(c, x) \/ Read(c, x) \/ Answer(c, x)
  \/ \E c \in Sessions, x \in Members : Ask(c, x)
  \/ Fair
  \/ Note

\* Each of these can happen only finitely often, so that whatever one of them waits for happens, too.
Spec == Init /\ [][Next]_vars /\ WF_vars(Fair)

SessionReads == "SessionReads" \notin broken

\* What a session writes is put behind all that it has written and seen.
SessionWrites == "SessionWrites" \notin broken

\* A leader read shows every write that was acknowledged, at any site, before the read was asked for.
LeaderReads == "LeaderReads" \notin broken

\* Under fair replication, whatever a session demands, or its leader read waits for, is, again and again, applied everywhere.
EveryGateOpens == []<>(\A c \in Sessions, x \in Sites :
  Covers(x, IF asked[c] = << >> THEN token[c] ELSE Join(token[c], asked[c][1])))
=============================================================================
