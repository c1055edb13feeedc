// Makes built/*.mjs, for a Node that does not read types: node build.ts. With --check it writes nothing, and fails if
// what is there is not what it would write.

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { basename, join } from "node:path";

const SOURCE = import.meta.dirname;
const BUILT = join(SOURCE, "built");

// Types leave blanks behind, so that lines and columns stay as they were; here they may go.
function build(source: string): string {
  const stripped = stripTypeScriptTypes(source, { mode: "strip" });
  const lines = stripped.replace(/(from "\.\/[a-z0-9]+)\.ts"/g, '$1.mjs"').split("\n").map((line) => line.trimEnd());
  return lines.filter((line, i) => line !== "" || lines[i - 1] !== "").join("\n");
}

const wanted = new Map<string, string>();
for (const name of readdirSync(SOURCE)) {
  if (name.endsWith(".ts") && name !== basename(import.meta.filename)) {
    wanted.set(name.replace(/\.ts$/, ".mjs"), build(readFileSync(join(SOURCE, name), "utf8")));
  }
}

mkdirSync(BUILT, { recursive: true });
const stale = new Set(readdirSync(BUILT));
for (const [name, text] of wanted) {
  if (stale.has(name) && readFileSync(join(BUILT, name), "utf8") === text) stale.delete(name);
  else stale.add(name);
}
if (process.argv.includes("--check")) {
  if (stale.size > 0) throw new Error(`not as the sources are: ${[...stale].join(", ")}; run node build.ts`);
} else {
  for (const name of stale) rmSync(join(BUILT, name), { recursive: true, force: true });
  for (const [name, text] of wanted) writeFileSync(join(BUILT, name), text);
}
