// How errors are answered, and when a proxy is asked to send a request elsewhere.

import { isNamed, lower } from "./carrier.mjs";

// H-26
const STATUS                              = new Map([
  ["GateTimeout", 503], ["NoEndpoint", 503], ["Overloaded", 503], ["Unreachable", 503],
  ["WriteLost", 409],
  ["CommitUnknown", 500],
  ["TokenError", 400], ["MalformedToken", 400], ["BadSignature", 400], ["UnknownKey", 400], ["ExpiredToken", 400],
]);

export function refuse(error        , retryAfterS               , accept        )                 {
  const status = STATUS.get(error);
  if (status === undefined) return null;
  const isJson = lower(accept).includes("json"); // H-28
  const headers              = [
    ["Cache-Control", "no-store"],
    ["Content-Type", isJson ? "application/problem+json" : "text/plain; charset=utf-8"],
  ];
  if (status === 503 || retryAfterS !== null) {
    headers.push(["Retry-After", String(Math.max(1, Math.ceil(retryAfterS ?? 1)))]); // H-27
  }
  return { status, headers, problem: isJson ? { status, error } : null };
}

// H-29
export function replay(
  { header, value, seen, methods }        , headers                      , method        , site        , wrote         ,
)                   {
  if (wrote) return null;
  if (methods !== null && !methods.some((each) => isNamed(each, method))) return null;
  if (headers.some(([name, mark]) => isNamed(name, seen ?? `${header}-src`) && mark !== "")) return null;
  return [header, value.replaceAll("{site}", () => site)];
}
