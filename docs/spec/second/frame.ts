// The three frames, as bytes. What stands in them is not looked at here, and no key is needed (T-9).

import * as cbor from "./cbor.ts";
import { MalformedToken } from "./errors.ts";

export const HMAC_64 = 4;
export const HMAC_256 = 5;
export const A256GCM = 3;
export type Algorithm = typeof HMAC_64 | typeof HMAC_256 | typeof A256GCM;

export const TAG_BYTES: Readonly<Record<Algorithm, number>> = { [HMAC_64]: 8, [HMAC_256]: 32, [A256GCM]: 16 };
export const IV_BYTES = 12;
const HOUR_BYTES = 3;

const ALG = 1;
const KID = 4;
const IV = 5;

export type Signed = {
  readonly alg: typeof HMAC_64 | typeof HMAC_256;
  readonly keyId: number;
  readonly payload: Uint8Array;
  readonly tag: Uint8Array;
};
export type Encrypted = {
  readonly alg: typeof A256GCM;
  readonly keyId: number;
  readonly hour: number;
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array; // the tag at its end
};
export type Frame = Signed | Encrypted;

export function protectedHeader(alg: Algorithm): Uint8Array {
  return cbor.map([ALG, cbor.unsigned(alg)]);
}

export function encode(frame: Frame): Uint8Array {
  const header = cbor.bytes(protectedHeader(frame.alg));
  if (frame.alg !== A256GCM) {
    const unprotected = cbor.map([KID, cbor.bytes(Uint8Array.of(frame.keyId))]);
    return cbor.array(header, unprotected, cbor.bytes(frame.payload), cbor.bytes(frame.tag));
  }
  const kid = Buffer.alloc(1 + HOUR_BYTES);
  kid.writeUInt8(frame.keyId, 0);
  kid.writeUIntBE(frame.hour, 1, HOUR_BYTES);
  const unprotected = cbor.map([KID, cbor.bytes(kid)], [IV, cbor.bytes(frame.iv)]);
  return cbor.array(header, unprotected, cbor.bytes(frame.ciphertext));
}

export function decode(bytes: Uint8Array): Frame {
  const reader = new cbor.Reader(bytes);
  const items = reader.array();
  const alg = readAlgorithm(reader.bytes());
  // The frame and the algorithm go together: an Encrypt0 has three items, a Mac0 four.
  if (items !== (alg === A256GCM ? 3 : 4)) throw new MalformedToken("not the frame of its algorithm");
  const frame = alg === A256GCM ? readEncrypted(reader) : readSigned(reader, alg);
  reader.end();
  return frame;
}

function readAlgorithm(header: Uint8Array): Algorithm {
  const alg = ([HMAC_64, HMAC_256, A256GCM] as const).find((each) => same(header, protectedHeader(each)));
  if (alg === undefined) throw new MalformedToken("no protected header of ours");
  return alg;
}

function readSigned(reader: cbor.Reader, alg: typeof HMAC_64 | typeof HMAC_256): Signed {
  expect(reader.map(), 1);
  const kid = readHeader(reader, KID, 1);
  const payload = reader.bytes();
  const tag = reader.bytes();
  expect(tag.length, TAG_BYTES[alg]);
  return { alg, keyId: kid[0]!, payload, tag };
}

function readEncrypted(reader: cbor.Reader): Encrypted {
  expect(reader.map(), 2);
  const kid = Buffer.from(readHeader(reader, KID, 1 + HOUR_BYTES));
  const iv = readHeader(reader, IV, IV_BYTES);
  const ciphertext = reader.bytes();
  if (ciphertext.length < TAG_BYTES[A256GCM]) throw new MalformedToken("a ciphertext shorter than its tag");
  return { alg: A256GCM, keyId: kid[0]!, hour: kid.readUIntBE(1, HOUR_BYTES), iv, ciphertext };
}

function readHeader(reader: cbor.Reader, key: number, length: number): Uint8Array {
  expect(reader.unsigned(), key);
  const value = reader.bytes();
  expect(value.length, length);
  return value;
}

function expect(found: number, wanted: number): void {
  if (found !== wanted) throw new MalformedToken("not one of the three frames");
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
