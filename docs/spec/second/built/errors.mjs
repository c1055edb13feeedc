// The errors of the specification, by name. Anything else that is thrown here is a mistake in this program.
//
//   ClockError    ClockDrift (remote_ms, wall_ms)             clock.md
//   ConfigError                                               a number that does not fit, a setting that cannot be
//   TokenError    MalformedToken  BadSignature                token.md
//                 UnknownKey (key_id)  ExpiredToken (claims)
//   HistoryError (line)                                       guarantees.md

export class SpecError extends Error {
  get type()         {
    return this.constructor.name;
  }
}

export class ConfigError extends SpecError {}

export class ClockError extends SpecError {}

export class ClockDrift extends ClockError {
           remoteMs        ;
           wallMs        ;

  constructor(remoteMs        , wallMs        ) {
    super(`the remote clock says ${remoteMs} ms, this one ${wallMs} ms`);
    this.remoteMs = remoteMs;
    this.wallMs = wallMs;
  }
}

export class TokenError extends SpecError {}

export class MalformedToken extends TokenError {}

export class BadSignature extends TokenError {}

export class UnknownKey extends TokenError {
           keyId        ;

  constructor(keyId        ) {
    super(`no key with the id ${keyId} is held`);
    this.keyId = keyId;
  }
}

export class ExpiredToken extends TokenError {
           claims        ;

  constructor(claims        ) {
    super(`the token expired at ${claims.expiresAt}`);
    this.claims = claims;
  }
}

export class HistoryError extends SpecError {
           line        ; // from 1

  constructor(line        , why        ) {
    super(`line ${line}: ${why}`);
    this.line = line;
  }
}
