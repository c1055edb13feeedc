// What a response sets and takes back, and what it may not.

import { FIELD, arrived, inject, isNamed, lower, prefixOf, takenBack, trim } from "./carrier.ts";
import type { CookieSettings, TextField, Use } from "./carrier.ts";

const FOLDED_FROM = 4;
const SLOT_BYTES = 8;

export type Session = { readonly changed: boolean; readonly token: string | null };
export type SetCookie = { readonly name: string; readonly value: string; readonly attributes: readonly string[] };
export type Response = {
  readonly headers: readonly TextField[];
  readonly gives: SetCookie | null;
  readonly deletes: readonly SetCookie[];
};

// H-10 to H-21
export function answer(
  request: readonly TextField[], use: Use, session: Session, response: readonly TextField[], ttlS: number,
): Response {
  const untouched = { headers: response, gives: null, deletes: [] };
  const cookies = arrived(request, use);
  const isFolded = cookies.names.length > FOLDED_FROM; // H-12
  if (!session.changed && !isFolded) return untouched; // H-10
  if (mayBeKept(response)) return untouched; // H-18, H-19

  const { cookies: settings } = use;
  const { token } = session;
  const deletes = settings === null ? [] : takenBack(cookies).map((name) => deletion(name, settings)); // H-11
  const isFieldOnly = use.header && request.some(([name]) => isNamed(name, FIELD)) && cookies.names.length === 0; // H-15
  const gives = token === null || settings === null || isFieldOnly ? null : {
    name: freshName(prefixOf(settings), cookies.names),
    value: token,
    attributes: attributes(settings, Math.floor(ttlS)),
  };
  const field = use.header ? token : null; // H-14
  if (gives === null && deletes.length === 0 && field === null) return untouched; // H-16

  let headers = inject(response, field) as TextField[];
  headers = keptPrivate(headers); // H-17
  if (field !== null && isCrossOrigin(request, response)) headers = exposed(headers); // H-21
  return { headers, gives, deletes };
}

function freshName(prefix: string, taken: readonly string[]): string {
  for (;;) {
    const bytes = crypto.getRandomValues(new Uint8Array(SLOT_BYTES));
    const name = prefix + Buffer.from(bytes).toString("hex");
    if (!taken.includes(name)) return name;
  }
}

// H-13
function attributes({ isSecure, sameSite, isPartitioned }: CookieSettings, maxAgeS: number): string[] {
  const all = ["Path=/", "HttpOnly", `SameSite=${sameSite}`, `Max-Age=${maxAgeS}`];
  if (isSecure) all.push("Secure");
  if (isPartitioned) all.push("Partitioned");
  return all;
}

function deletion(name: string, settings: CookieSettings): SetCookie {
  return { name, value: "", attributes: attributes(settings, 0) };
}

// --- caches ---

// Commas in quotes separate no directives.
export function directives(headers: readonly TextField[], name: string): string[] {
  return headers.filter(([each]) => isNamed(each, name)).flatMap(([, value]) => split(value));
}

function split(value: string): string[] {
  const found = [""];
  let isQuoted = false;
  for (let i = 0; i < value.length; i++) {
    const character = value[i]!;
    if (isQuoted && character === "\\") {
      found.push(found.pop()! + character + (value[++i] ?? ""));
      continue;
    }
    if (character === '"') isQuoted = !isQuoted;
    if (character === "," && !isQuoted) found.push("");
    else found.push(found.pop()! + character);
  }
  return found.map(trim).filter((directive) => directive !== "");
}

function nameOf(directive: string): string {
  return lower(trim(directive.split("=")[0]!));
}

function mayBeKept(response: readonly TextField[]): boolean {
  const ours = directives(response, "Cache-Control").map(nameOf);
  if (ours.includes("public") || ours.includes("s-maxage")) return true; // H-18
  return response.some(([name, value]) => mayBeKeptByCdn(lower(name), value));
}

// H-19
function mayBeKeptByCdn(name: string, value: string): boolean {
  if (name === "x-accel-expires") return trim(value) !== "0";
  if (!/^(.+-)?(cdn-cache-control|surrogate-control)$/.test(name) && name !== "edge-control") return false;
  const names = split(value).map(nameOf);
  return names.length > 0 && !names.some((each) => ["private", "no-store", "bypass-cache"].includes(each));
}

// H-17
function keptPrivate(headers: readonly TextField[]): TextField[] {
  const others = directives(headers, "Cache-Control").filter((directive) => nameOf(directive) !== "private");
  const rest = headers.filter(([name]) => !isNamed(name, "Cache-Control"));
  return [...rest, ["Cache-Control", ["private", ...others].join(", ")]];
}

// --- other origins ---

function first(headers: readonly TextField[], name: string): string | null {
  return headers.find(([each]) => isNamed(each, name))?.[1] ?? null;
}

function isCrossOrigin(request: readonly TextField[], response: readonly TextField[]): boolean {
  if (first(response, "Access-Control-Allow-Origin") !== null) return true;
  const origin = first(request, "Origin") ?? "";
  const host = origin.split("://").slice(1).join("://"); // as it is written: its port, too
  return origin !== "" && lower(host) !== lower(first(request, "Host") ?? "");
}

function exposed(headers: readonly TextField[]): TextField[] {
  const name = "Access-Control-Expose-Headers";
  const before = directives(headers, name);
  if (before.some((each) => isNamed(each, FIELD))) return [...headers];
  return [...headers.filter(([each]) => !isNamed(each, name)), [name, [...before, FIELD].join(", ")]];
}
