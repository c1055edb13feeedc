------------------------------ MODULE Carriers ------------------------------
(***************************************************************************)
(* A carrier is a set: one browser that sends requests at the same time,   *)
(* whose answers arrive in any order, or never (the specification:         *)
(* carriers.md).                                                           *)
(*                                                                         *)
(* The jar holds cookies, each a name and a token. A token is the set of   *)
(* writes that it demands. A request presents every cookie that the jar    *)
(* holds when it is sent; the server joins them, reads or writes, and      *)
(* answers with the joined token, and the names to take back. What an      *)
(* answer that has arrived told the user must be demanded from then on.    *)
(*                                                                         *)
(* Left out: what tokens look like, seal and open, subjects, a browser     *)
(* that drops cookies, more tokens than a carrier may hold, the servers'   *)
(* own gate (Gate); a request that learned nothing is answered with a      *)
(* token all the same.                                                     *)
(***************************************************************************)
EXTENDS Naturals, FiniteSets

CONSTANTS
  Requests,   \* how many there are, in the order in which they are sent
  Parallel,   \* how many of them are under way at most
  FRESH_NAME, \* each answer's cookie has a name that no other has
  TAKE_BACK,  \* an answer takes back the cookies that its request presented
  EXACT       \* and no other

Asked    == "asked"
Answered == "answered"
Over     == "over"
NotYet   == "not yet"

VARIABLES
  jar,    \* what the browser holds: <<name, token>>
  state,  \* state[r]
  names,  \* names[r]: the cookies that a request presented
  token,  \* token[r]: what it presented, then what it is answered with
  done,   \* the writes that the servers hold
  told    \* what answers that have arrived told the user

vars == <<jar, state, names, token, done, told>>

All    == 1..Requests
Joined == UNION {c[2] : c \in jar}
UnderWay == {r \in All : state[r] \in {Asked, Answered}}

Init ==
  /\ jar   = {}
  /\ state = [r \in All |-> NotYet]
  /\ names = [r \in All |-> {}]
  /\ token = [r \in All |-> {}]
  /\ done  = {}
  /\ told  = {}

Send(r) ==
  /\ state[r] = NotYet
  /\ \A q \in All : q < r => state[q] # NotYet
  /\ Cardinality(UnderWay) < Parallel
  /\ state' = [state EXCEPT ![r] = Asked]
  /\ names' = [names EXCEPT ![r] = {c[1] : c \in jar}]
  /\ token' = [token EXCEPT ![r] = Joined]
  /\ UNCHANGED <<jar, done, told>>

\* The server writes, or reads everything that is there.
Write(r) ==
  /\ state[r] = Asked
  /\ done'  = done \cup {r}
  /\ token' = [token EXCEPT ![r] = @ \cup {r}]
  /\ state' = [state EXCEPT ![r] = Answered]
  /\ UNCHANGED <<jar, names, told>>

Read(r) ==
  /\ state[r] = Asked
  /\ token' = [token EXCEPT ![r] = @ \cup done]
  /\ state' = [state EXCEPT ![r] = Answered]
  /\ UNCHANGED <<jar, names, done, told>>

Arrive(r) ==
  LET name == IF FRESH_NAME THEN r ELSE 0
      gone == IF ~TAKE_BACK THEN {} ELSE IF EXACT THEN names[r] ELSE {c[1] : c \in jar}
  IN /\ state[r] = Answered
     /\ jar'   = {c \in jar : c[1] \notin gone /\ c[1] # name} \cup {<<name, token[r]>>}
     /\ told'  = told \cup token[r]
     /\ state' = [state EXCEPT ![r] = Over]
     /\ names' = [names EXCEPT ![r] = {}]
     /\ token' = [token EXCEPT ![r] = {}]
     /\ UNCHANGED done

\* The answer never arrives: the browser was told nothing.
Lose(r) ==
  /\ state[r] = Answered
  /\ state' = [state EXCEPT ![r] = Over]
  /\ names' = [names EXCEPT ![r] = {}]
  /\ token' = [token EXCEPT ![r] = {}]
  /\ UNCHANGED <<jar, done, told>>

Next == \E r \in All : Send(r) \/ Write(r) \/ Read(r) \/ Arrive(r) \/ Lose(r)

Spec == Init /\ [][Next]_vars

\* Whatever any answer told, the next request demands.
NothingForgotten == told \subseteq Joined
\* The jar does not grow with the number of requests.
FewCookies == Cardinality(jar) <= Parallel
=============================================================================
