// As much of deterministic CBOR (RFC 8949, section 4.2.1) as tokens are made of. The reader knows one spelling of each
// item: definite lengths, heads in their shortest form. It never recurses, and makes nothing of an announced length.

import { ConfigError, MalformedToken } from "./errors.mjs";

const UNSIGNED = 0;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const NULL = 0xf6;

const HALF_A_PAIR = /\p{Cs}/u; // with the flag, whole pairs are other characters

function head(major        , argument        )             {
  const first = major << 5;
  if (argument < 24) return Uint8Array.of(first | argument);
  const log = argument < 2 ** 8 ? 0 : argument < 2 ** 16 ? 1 : argument < 2 ** 32 ? 2 : 3; // of the argument's size
  const size = 1 << log;
  const wide = Buffer.alloc(8);
  wide.writeBigUInt64BE(BigInt(argument));
  return concat(Uint8Array.of(first | (24 + log)), wide.subarray(8 - size));
}

// How long the head of a byte string is.
export function headLength(length        )         {
  return head(BYTES, length).length;
}

export function concat(...parts              )             {
  return Buffer.concat(parts);
}

export function unsigned(value        )             {
  return head(UNSIGNED, value);
}

export function bytes(value            )             {
  return concat(head(BYTES, value.length), value);
}

// T-8: as it is given. What UTF-8 cannot hold is refused; Node would write U+FFFD for it.
export function text(value        )             {
  if (HALF_A_PAIR.test(value)) throw new ConfigError("text with half a surrogate pair");
  const encoded = Buffer.from(value, "utf8");
  return concat(head(TEXT, encoded.length), encoded);
}

export function nothing()             {
  return Uint8Array.of(NULL);
}

export function array(...items              )             {
  return concat(head(ARRAY, items.length), ...items);
}

export function map(...pairs                                    )             {
  return concat(head(MAP, pairs.length), ...pairs.flatMap(([key, value]) => [unsigned(key), value]));
}

export class Reader {
           #bytes            ;
  #at = 0;

  constructor(source            ) {
    this.#bytes = source;
  }

  array()         {
    return this.#head(ARRAY);
  }

  map()         {
    return this.#head(MAP);
  }

  unsigned()         {
    return this.#head(UNSIGNED);
  }

  bytes()             {
    const length = this.#head(BYTES);
    return this.#take(length);
  }

  end()       {
    if (this.#at !== this.#bytes.length) throw new MalformedToken("bytes after the end");
  }

  // Numbers beyond 2^53 are no length, no version and no expiry: their exact value does not matter.
  #head(major        )         {
    const first = this.#take(1)[0] ;
    const info = first & 0x1f;
    if (first >> 5 !== major || info > 27) throw new MalformedToken("CBOR of another type, or of indefinite length");
    if (info < 24) return info;
    const argument = this.#take(1 << (info - 24)).reduce((value, byte) => value * 256 + byte, 0);
    const least = info === 24 ? 24 : 256 ** (1 << (info - 25));
    if (argument < least) throw new MalformedToken("a head longer than it need be");
    return argument;
  }

  #take(length        )             {
    if (length > this.#bytes.length - this.#at) throw new MalformedToken("bytes that end early");
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
