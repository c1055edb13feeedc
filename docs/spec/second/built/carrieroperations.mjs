// The operations of carriers.json.

import { arrived, call, extract, inject, job, lower, prefixOf, present, takenBack } from "./carrier.mjs";

import { asList, asNumber, asObject, asText, orNull } from "./json.mjs";

import { refuse, replay } from "./refusal.mjs";
import { answer } from "./response.mjs";

export const CARRIER_OPERATIONS = {
  "carrier.extract": (given            )             => fromPresented(extract(asFields(given.carrier))),
  "carrier.inject": (given            )             => ({
    carrier: inject(asFields(given.carrier), orNull(given.token, asText)).map(([name, value]) => [name, value        ]),
  }),
  "carrier.present": (given            )             => {
    const [headers, use] = [asTextFields(given.headers), asUse(given)];
    return { ...fromPresented(present(headers, use)), cookies: [...takenBack(arrived(headers, use))] };
  },
  "carrier.answer": carrierAnswer,
  "carrier.call": (given            )             => {
    const called = call(asText(given.origin), asText(given.url), asTextFields(given.headers), orNull(given.token, asText));
    return { goes: called.goes, headers: fromHeaders(called.headers) };
  },
  "carrier.job": (given            )             => {
    const { whole, retried, ...presented } = job(asFields(given.message), asNumber(given.now));
    return { ...fromPresented(presented), whole, retried };
  },
  "carrier.refusal": (given            )             => {
    const refusal = refuse(asText(given.error), orNull(given.retry_after_s, asNumber), asText(given.accept));
    if (refusal === null) return { answered: false };
    const { status, headers, problem } = refusal;
    const tells = JSON.stringify(refusal).includes(asText(given.evidence));
    return { answered: true, status, headers: fromHeaders(headers), problem: problem ?? {}, tells };
  },
  "carrier.replay": (given            )             => {
    const setting = {
      header: asText(given.header),
      value: asText(given.value),
      seen: orNull(given.seen, asText),
      methods: orNull(given.methods, (methods) => asList(methods).map(asText)),
    };
    const field = replay(setting, asTextFields(given.headers), asText(given.method), asText(given.site), given.wrote === true);
    return { field: field === null ? null : [lower(field[0]), field[1]] };
  },
};

function carrierAnswer(given            )             {
  const [request, use] = [asTextFields(given.headers), asUse(given)];
  const session = asObject(given.session);
  const { headers, gives, deletes } = answer(
    request, use, { changed: session.changed === true, token: orNull(session.token, asText) },
    asTextFields(given.response), asNumber(given.ttl_s),
  );
  const names = arrived(request, use).names;
  const marks = new Map(deletes.map(({ attributes }) => [JSON.stringify([...attributes].sort()), [...attributes].sort()]));
  return {
    headers: fromHeaders(headers),
    gives: gives === null || use.cookies === null ? null : fromGiven(gives, prefixOf(use.cookies), names),
    deletes: deletes.map(({ name }) => name),
    marks: [...marks.values()],
  };
}

function fromGiven({ name, value, attributes }           , prefix        , arrived                   )             {
  const isFresh = /^[A-Za-z0-9_]{6,64}$/.test(name.slice(prefix.length)) && !arrived.includes(name);
  return { prefix, fresh: isFresh, value, attributes: [...attributes].sort() };
}

function asFields(value                  )          {
  return asList(value).map((field) => [asText(asList(field)[0]), asList(field)[1]]);
}

function asTextFields(value                  )              {
  return asList(value).map((field) => [asText(asList(field)[0]), asText(asList(field)[1])]);
}

// Absent: as usual.
function asUse(given            )      {
  return { cookies: given.cookies === null ? null : asCookies(asObject(given.cookies ?? {})), header: given.header !== false };
}

function asCookies(settings            )                 {
  return {
    name: orNull(settings.name, asText) ?? "causal",
    isSecure: settings.secure !== false,
    sameSite: orNull(settings.same_site, asText) ?? "Lax",
    isPartitioned: settings.partitioned === true,
  };
}

function fromPresented({ tokens, unopenable }           )             {
  return { tokens: [...tokens], unopenable };
}

// Sorted, names in lower case.
function fromHeaders(headers                      )         {
  const rows = headers.map(([name, value]) => [lower(name), value]         );
  return rows.sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0)).map((row) => [...row]);
}
