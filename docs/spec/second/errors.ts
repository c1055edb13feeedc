// The errors of the specification, by name. Anything else that is thrown here is a mistake in this program.
//
//   ClockError    ClockDrift (remote_ms, wall_ms)             clock.md
//   ConfigError                                               a number that does not fit, a setting that cannot be
//   TokenError    MalformedToken  BadSignature                token.md
//                 UnknownKey (key_id)  ExpiredToken (claims)
//   HistoryError (line)                                       guarantees.md

import type { Claims } from "./claims.ts";

export class SpecError extends Error {
  get type(): string {
    return this.constructor.name;
  }
}

export class ConfigError extends SpecError {}

export class ClockError extends SpecError {}

export class ClockDrift extends ClockError {
  readonly remoteMs: bigint;
  readonly wallMs: bigint;

  constructor(remoteMs: bigint, wallMs: bigint) {
    super(`the remote clock says ${remoteMs} ms, this one ${wallMs} ms`);
    this.remoteMs = remoteMs;
    this.wallMs = wallMs;
  }
}

export class TokenError extends SpecError {}

export class MalformedToken extends TokenError {}

export class BadSignature extends TokenError {}

export class UnknownKey extends TokenError {
  readonly keyId: number;

  constructor(keyId: number) {
    super(`no key with the id ${keyId} is held`);
    this.keyId = keyId;
  }
}

export class ExpiredToken extends TokenError {
  readonly claims: Claims;

  constructor(claims: Claims) {
    super(`the token expired at ${claims.expiresAt}`);
    this.claims = claims;
  }
}

export class HistoryError extends SpecError {
  readonly line: number; // from 1

  constructor(line: number, why: string) {
    super(`line ${line}: ${why}`);
    this.line = line;
  }
}
