// Seal and open: keys, tags, ciphertexts, and the order of the checks.

import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";

import * as base64url from "./base64url.ts";
import * as cbor from "./cbor.ts";
import { EXPIRY_MAX, checkRanges, normalForm } from "./claims.ts";
import type { Claims } from "./claims.ts";
import { BadSignature, ConfigError, ExpiredToken, MalformedToken, TokenError, UnknownKey } from "./errors.ts";
import { A256GCM, IV_BYTES, TAG_BYTES, decode as decodeFrame, encode as encodeFrame, protectedHeader } from "./frame.ts";
import type { Algorithm, Encrypted, Frame, Signed } from "./frame.ts";
import { pack } from "./pack.ts";
import { unpack } from "./unpack.ts";

const TEXT_MAX = 4096;
const KEY_BYTES = 32;
const VERSION = 1;
const HOUR_S = 3600;

export type Audience = { readonly audience: string; readonly subject: string | null };
export type Sealed = { readonly payload: Uint8Array; readonly text: string };

export class Keyring {
  readonly #secrets = new Map<number, Uint8Array>();

  constructor(keys: Iterable<{ id: number; secret: Uint8Array }>) {
    for (const { id, secret } of keys) {
      if (!Number.isInteger(id) || id < 0 || id > 255) throw new ConfigError(`a key id of ${id}`);
      if (secret.length !== KEY_BYTES) throw new ConfigError("a secret has 32 bytes");
      if (this.#secrets.has(id)) throw new ConfigError(`two keys with the id ${id}`);
      this.#secrets.set(id, secret);
    }
  }

  // `iv` is given by vectors alone: it must be random, anew for each token.
  seal(given: Claims, to: Audience, keyId: number, alg: Algorithm, iv: Uint8Array = randomBytes(IV_BYTES)): Sealed {
    const secret = this.#secrets.get(keyId);
    if (secret === undefined) throw new ConfigError(`no key with the id ${keyId} is held`);
    checkRanges(given);
    const claims = normalForm(given);
    const payload = encodePayload(claims);
    const text = base64url.encode(encodeFrame(makeFrame(secret, keyId, alg, payload, claims.expiresAt, to, iv)));
    if (text.length > TEXT_MAX) throw new TokenError(`a text of ${text.length} characters`); // T-50
    return { payload, text };
  }

  // T-44: the steps are in this order, and the first that fails decides the error.
  open(text: string, to: Audience, now: number): Claims {
    if (text.length > TEXT_MAX) throw new MalformedToken(`a text of ${text.length} characters`); // T-1
    const frame = decodeFrame(base64url.decode(text));
    const secret = this.#secrets.get(frame.keyId);
    if (secret === undefined) throw new UnknownKey(frame.keyId); // T-45
    const payload = frame.alg === A256GCM ? decrypt(secret, frame, to) : verify(secret, frame, to); // T-46
    const claims = decodePayload(payload);
    if (frame.alg === A256GCM && frame.hour !== hourOf(claims.expiresAt)) {
      throw new MalformedToken("encrypted under the key of another hour"); // T-13
    }
    if (now >= claims.expiresAt) throw new ExpiredToken(claims); // T-47
    return claims;
  }
}

// T-4, T-5: a secret is never used itself.
function deriveKey(secret: Uint8Array, alg: Algorithm, hour: number | null): Uint8Array {
  const info = hour === null ? `causal/1/${alg}` : `causal/1/${alg}/${hour}`;
  return new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(0), info, KEY_BYTES));
}

function hourOf(expiresAt: number): number {
  return Math.floor(expiresAt / HOUR_S);
}

// T-6, T-7
function externalAad({ audience, subject }: Audience): Uint8Array {
  return cbor.array(cbor.text(audience), subject === null ? cbor.nothing() : cbor.text(subject));
}

function makeFrame(
  secret: Uint8Array, keyId: number, alg: Algorithm, payload: Uint8Array, expiresAt: number, to: Audience, iv: Uint8Array,
): Frame {
  if (alg !== A256GCM) return { alg, keyId, payload, tag: macOf(secret, alg, payload, to) };
  const hour = hourOf(expiresAt);
  if (iv.length !== IV_BYTES) throw new ConfigError("an IV has 12 bytes");
  const cipher = createCipheriv("aes-256-gcm", deriveKey(secret, alg, hour), iv);
  cipher.setAAD(encStructure(to));
  const ciphertext = cbor.concat(cipher.update(payload), cipher.final(), cipher.getAuthTag());
  return { alg, keyId, hour, iv, ciphertext };
}

// T-10: the tag over the MAC_structure of RFC 9052, its first bytes.
function macOf(secret: Uint8Array, alg: Signed["alg"], payload: Uint8Array, to: Audience): Uint8Array {
  const structure = cbor.array(
    cbor.text("MAC0"), cbor.bytes(protectedHeader(alg)), cbor.bytes(externalAad(to)), cbor.bytes(payload),
  );
  return createHmac("sha256", deriveKey(secret, alg, null)).update(structure).digest().subarray(0, TAG_BYTES[alg]);
}

// T-12: the Enc_structure.
function encStructure(to: Audience): Uint8Array {
  return cbor.array(cbor.text("Encrypt0"), cbor.bytes(protectedHeader(A256GCM)), cbor.bytes(externalAad(to)));
}

function verify(secret: Uint8Array, frame: Signed, to: Audience): Uint8Array {
  if (!timingSafeEqual(macOf(secret, frame.alg, frame.payload, to), frame.tag)) {
    throw new BadSignature("the tag does not verify");
  }
  return frame.payload;
}

function decrypt(secret: Uint8Array, frame: Encrypted, to: Audience): Uint8Array {
  const end = frame.ciphertext.length - TAG_BYTES[A256GCM];
  const decipher = createDecipheriv("aes-256-gcm", deriveKey(secret, A256GCM, frame.hour), frame.iv);
  decipher.setAAD(encStructure(to));
  decipher.setAuthTag(frame.ciphertext.subarray(end));
  const plaintext = decipher.update(frame.ciphertext.subarray(0, end));
  try {
    return cbor.concat(plaintext, decipher.final());
  } catch {
    throw new BadSignature("the ciphertext does not decrypt");
  }
}

// T-14
function encodePayload(claims: Claims): Uint8Array {
  return cbor.array(cbor.unsigned(VERSION), cbor.unsigned(claims.expiresAt), cbor.bytes(pack(claims)));
}

function decodePayload(payload: Uint8Array): Claims {
  const reader = new cbor.Reader(payload);
  if (reader.array() !== 3 || reader.unsigned() !== VERSION) throw new MalformedToken("no payload of version 1"); // T-75
  const expiresAt = reader.unsigned();
  if (expiresAt > EXPIRY_MAX) throw new MalformedToken("an expiry past the year 3058");
  const packed = reader.bytes();
  reader.end();
  return unpack(packed, expiresAt);
}

// How many characters claims would seal to, without sealing them.
export function textLength(given: Claims, alg: Algorithm): number {
  const payload = encodePayload(normalForm(given)).length;
  const tag = TAG_BYTES[alg];
  const frame = alg === A256GCM
    ? 26 + cbor.headLength(payload + tag) + payload + tag
    : 9 + cbor.headLength(payload) + payload + cbor.headLength(tag) + tag;
  return Math.ceil((4 * frame) / 3);
}
