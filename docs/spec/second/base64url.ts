// base64url without padding, in its one spelling. Node's own decoder is lenient, so its result is spelled again.

import { MalformedToken } from "./errors.ts";

export function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

// T-2, T-3: other characters, padding, an impossible length and stray bits all come out spelled otherwise.
export function decode(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw new MalformedToken("not base64url in its one spelling");
  return bytes;
}
