// JSON that keeps what JSON.parse does not: how a number was written, and that a member stands in an object twice.

export class JsonNumber {
           text        ;

  constructor(text        ) {
    this.text = text;
  }

  // The whole number that it is written as; null if it has a fraction or an exponent.
  whole()                {
    return /^-?[0-9]+$/.test(this.text) ? BigInt(this.text) : null;
  }

  equals(other            )          {
    return this.text === other.text || compare(this.text, other.text);
  }
}

export class JsonError extends Error {}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const TEXT = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const BLANKS = /[ \t\n\r]*/y;
const WORDS                                                 = [["null", null], ["true", true], ["false", false]];

export function parseExact(text        )        {
  const reader = new Reader(text);
  const value = reader.value();
  reader.end();
  return value;
}

class Reader {
           #text        ;
  #at = 0;

  constructor(text        ) {
    this.#text = text;
  }

  value()        {
    this.#skip(BLANKS);
    const next = this.#text[this.#at];
    if (next === "{") return this.#object();
    if (next === "[") return this.#list();
    if (next === '"') return this.#string();
    for (const [word, value] of WORDS) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    }
    const number = this.#skip(NUMBER);
    if (number === "") throw new JsonError(`no value at ${this.#at}`);
    return new JsonNumber(number);
  }

  end()       {
    this.#skip(BLANKS);
    if (this.#at < this.#text.length) throw new JsonError(`more at ${this.#at}`);
  }

  #object()                             {
    const members = new Map               ();
    this.#each("}", () => {
      this.#skip(BLANKS);
      const name = this.#string();
      if (members.has(name)) throw new JsonError(`${name} stands there twice`);
      this.#expect(":");
      members.set(name, this.value());
    });
    return members;
  }

  #list()                   {
    const items          = [];
    this.#each("]", () => items.push(this.value()));
    return items;
  }

  #each(last        , one            )       {
    this.#at++;
    this.#skip(BLANKS);
    if (this.#text[this.#at] === last) {
      this.#at++;
      return;
    }
    for (;;) {
      one();
      this.#skip(BLANKS);
      if (this.#text[this.#at] === last) break;
      this.#expect(",");
    }
    this.#at++;
  }

  #string()         {
    const text = this.#skip(TEXT);
    if (text === "") throw new JsonError(`no text at ${this.#at}`);
    return JSON.parse(text)          ;
  }

  #expect(character        )       {
    this.#skip(BLANKS);
    if (this.#text[this.#at] !== character) throw new JsonError(`no ${character} at ${this.#at}`);
    this.#at++;
  }

  #skip(what        )         {
    what.lastIndex = this.#at;
    const found = what.exec(this.#text)?.[0] ?? "";
    this.#at += found.length;
    return found;
  }
}

// Whether two numbers, however written, are the same.
function compare(a        , b        )          {
  const [x, y] = [normal(a), normal(b)];
  return x[0] === y[0] && x[1] === y[1];
}

// digits x 10^exponent, without zeros at the end of the digits.
function normal(text        )                                              {
  const [mantissa, power = "0"] = text.toLowerCase().split("e")                     ;
  const [whole, fraction = ""] = mantissa.split(".")                     ;
  const digits = (whole + fraction).replace(/0+$/, "");
  const zeros = (whole + fraction).length - digits.length;
  if (/^-?0*$/.test(digits)) return [0n, 0n];
  return [BigInt(digits), BigInt(power) - BigInt(fraction.length) + BigInt(zeros)];
}
