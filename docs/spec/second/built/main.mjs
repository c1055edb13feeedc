// Answers vectors: a JSON object a line on standard input, and one back on standard output. See ../vectors.md.

import { SpecError } from "./errors.mjs";
import { asObject, asText, fromError } from "./json.mjs";

import { OPERATIONS } from "./operations.mjs";

const LINE_FEED = 0x0a;

function answer(line        )             {
  const request = asObject(JSON.parse(line)        );
  const id = request.id;
  const operation = OPERATIONS.get(asText(request.op));
  if (operation === undefined) return { id, unsupported: true };
  try {
    return { id, out: operation(asObject(request.in), line) };
  } catch (error) {
    if (error instanceof SpecError) return { id, error: fromError(error) };
    throw error; // a mistake of ours, or of whoever asks: the program ends, and says so on standard error
  }
}

// Lines end with a line feed and with nothing else. (node:readline would also end them with U+2028, which JSON allows
// in its texts.)
async function* lines(input                       )                         {
  let rest           = [];
  for await (const chunk of input) {
    let start = 0;
    for (let end; (end = chunk.indexOf(LINE_FEED, start)) >= 0; start = end + 1) {
      yield Buffer.concat([...rest, chunk.subarray(start, end)]).toString("utf8");
      rest = [];
    }
    rest.push(chunk.subarray(start));
  }
}

for await (const line of lines(process.stdin)) process.stdout.write(`${JSON.stringify(answer(line))}\n`);
