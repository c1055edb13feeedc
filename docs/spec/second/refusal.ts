// How errors are answered, and when a proxy is asked to send a request elsewhere.

import { isNamed, lower } from "./carrier.ts";
import type { TextField } from "./carrier.ts";

// H-26
const STATUS: ReadonlyMap<string, number> = new Map([
  ["GateTimeout", 503], ["NoEndpoint", 503], ["Overloaded", 503], ["Unreachable", 503],
  ["WriteLost", 409],
  ["CommitUnknown", 500],
  ["TokenError", 400], ["MalformedToken", 400], ["BadSignature", 400], ["UnknownKey", 400], ["ExpiredToken", 400],
]);

export type Refusal = {
  readonly status: number;
  readonly headers: readonly TextField[];
  readonly problem: { readonly status: number; readonly error: string } | null;
};

export function refuse(error: string, retryAfterS: number | null, accept: string): Refusal | null {
  const status = STATUS.get(error);
  if (status === undefined) return null;
  const isJson = lower(accept).includes("json"); // H-28
  const headers: TextField[] = [
    ["Cache-Control", "no-store"],
    ["Content-Type", isJson ? "application/problem+json" : "text/plain; charset=utf-8"],
  ];
  if (status === 503 || retryAfterS !== null) {
    headers.push(["Retry-After", String(Math.max(1, Math.ceil(retryAfterS ?? 1)))]); // H-27
  }
  return { status, headers, problem: isJson ? { status, error } : null };
}

export type Replay = {
  readonly header: string;
  readonly value: string;
  readonly seen: string | null;
  readonly methods: readonly string[] | null;
};

// H-29
export function replay(
  { header, value, seen, methods }: Replay, headers: readonly TextField[], method: string, site: string, wrote: boolean,
): TextField | null {
  if (wrote) return null;
  if (methods !== null && !methods.some((each) => isNamed(each, method))) return null;
  if (headers.some(([name, mark]) => isNamed(name, seen ?? `${header}-src`) && mark !== "")) return null;
  return [header, value.replaceAll("{site}", () => site)];
}
