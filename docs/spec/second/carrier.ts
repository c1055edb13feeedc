// Carriers: the sets of tokens that requests, messages and calls present. Tokens are opaque here.

export const FIELD = "Causal-Token";
const TOKENS_MAX = 16;
const UNOPENABLE = "!"; // no token has this text
const COOKIE_CHARACTERS_MAX = 65_536;
const TAKEN_BACK_MAX = 64;

// In a message a value may be anything.
export type Field = readonly [name: string, value: unknown];
export type TextField = readonly [name: string, value: string];

export type Presented = { readonly tokens: readonly string[]; readonly unopenable: boolean };

export type CookieSettings = {
  readonly name: string; // the application's
  readonly isSecure: boolean;
  readonly sameSite: string;
  readonly isPartitioned: boolean;
};

export type Use = { readonly cookies: CookieSettings | null; readonly header: boolean };

// Whatever the case, of ASCII: nothing else stands in names of fields.
export function lower(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

export function isNamed(name: string, wanted: string): boolean {
  return lower(name) === lower(wanted);
}

// Blanks and tabs; other white space is part of what it stands in.
export function trim(text: string): string {
  return text.replace(/^[ \t]+|[ \t]+$/g, "");
}

// H-1, H-2: the parts of a value; null for what is no text.
export function partsOf(fields: readonly Field[], name: string): (string | null)[] {
  return fields.filter(([each]) => isNamed(each, name)).flatMap(([, value]) => parts(value));
}

function parts(value: unknown): (string | null)[] {
  if (value === null) return [];
  if (Array.isArray(value)) return value.flatMap((each) => (Array.isArray(each) ? [null] : parts(each)));
  return typeof value === "string" ? value.split(",").map(trim).filter((part) => part !== "") : [null];
}

// H-3
function carrierOf(found: readonly (string | null)[]): Presented {
  const different = [...new Set(found)]; // what is no text is one of them: H-2
  const tokens = different.slice(0, TOKENS_MAX).filter((token) => token !== null);
  return { tokens, unopenable: different.length > TOKENS_MAX || different.includes(null) };
}

export function extract(fields: readonly Field[]): Presented {
  return carrierOf(partsOf(fields, FIELD));
}

// H-4
export function inject<F extends Field>(fields: readonly F[], token: string | null): (F | TextField)[] {
  const others = fields.filter(([name]) => !isNamed(name, FIELD));
  return token === null ? others : [...others, [FIELD, token]];
}

// --- cookies ---

export function prefixOf({ name, isSecure }: CookieSettings): string {
  return `${isSecure ? "__Host-" : ""}${name}-`;
}

export type Arrived = { readonly names: readonly string[]; readonly tokens: readonly (string | null)[] };

// H-5 to H-7
export function cookiesOf(headers: readonly TextField[], settings: CookieSettings): Arrived {
  const prefix = prefixOf(settings);
  const names = new Set<string>();
  const tokens: (string | null)[] = [];
  let characters = 0;
  for (const [name, value] of headers) {
    if (!isNamed(name, "Cookie") || !value.includes(prefix)) continue;
    characters += [...value].length;
    if (characters > COOKIE_CHARACTERS_MAX) {
      tokens.push(null);
      break;
    }
    for (const cookie of value.split(";").map(trim)) {
      const equals = cookie.indexOf("=");
      if (equals < 0 || !isOurs(cookie.slice(0, equals), prefix)) continue;
      names.add(cookie.slice(0, equals));
      tokens.push(cookie.slice(equals + 1));
    }
  }
  return { names: [...names], tokens };
}

function isOurs(name: string, prefix: string): boolean {
  return name.startsWith(prefix) && /^[A-Za-z0-9_]{1,64}$/.test(name.slice(prefix.length));
}

// H-8: what one response takes back.
export function takenBack({ names }: Arrived): readonly string[] {
  return names.slice(0, TAKEN_BACK_MAX);
}

const NO_COOKIES: Arrived = { names: [], tokens: [] };

export function arrived(headers: readonly TextField[], { cookies }: Use): Arrived {
  return cookies === null ? NO_COOKIES : cookiesOf(headers, cookies);
}

// H-9
export function present(headers: readonly TextField[], use: Use): Presented {
  return carrierOf([...(use.header ? partsOf(headers, FIELD) : []), ...arrived(headers, use).tokens]);
}

// --- services ---

export function parseUrl(text: string): URL | null {
  return URL.canParse(text) ? new URL(text) : null;
}

// H-22, H-23
export function call(
  origin: string, url: string, headers: readonly TextField[], token: string | null,
): { readonly goes: boolean; readonly headers: readonly TextField[] } {
  const [there, service] = [parseUrl(url), parseUrl(origin)];
  if (there === null || service === null || there.protocol !== service.protocol || there.host !== service.host) {
    return { goes: false, headers };
  }
  const theirs = headers.filter(([name]) => isNamed(name, FIELD));
  const caller = extract(theirs);
  if (token === null) return { goes: true, headers: caller.tokens.length > 0 ? headers : inject(headers, "") };
  const tokens = new Set([...caller.tokens, ...(caller.unopenable ? [UNOPENABLE] : []), token]);
  return { goes: true, headers: inject(headers, [...tokens].join(",")) };
}

// --- jobs ---

export type Job = Presented & { readonly whole: boolean; readonly retried: boolean };

// H-24, H-25
export function job(message: readonly Field[], now: number): Job {
  const presented = extract(message);
  const isOver = (until: string | null): boolean =>
    until !== null && /^[0-9]{1,15}$/.test(until) && until !== "1" && Number(until) <= now;
  return {
    ...presented,
    whole: (presented.tokens.length > 0 || presented.unopenable) && partsOf(message, "Causal-Partial").every(isOver),
    retried: partsOf(message, "Causal-Retried").length > 0,
  };
}
