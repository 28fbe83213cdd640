// Checks objects by the published models of their projects. Reads a list of {from, package, object}, prints
// {checked, problems}. The models say what is wrong with a field, not that one is unknown: a field that the model never
// looked at is unknown.
import { readFileSync, readdirSync } from "node:fs";

const looked = (value, path, seen) => {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get: (target, key) => {
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return target[key];
      seen.add(`${path}.${key}`);
      return looked(target[key], `${path}.${key}`, seen);
    },
    // An open map: its keys are anybody's.
    ownKeys: (target) => {
      for (const key of Object.keys(target)) seen.add(`${path}.${key}`);
      return Reflect.ownKeys(target);
    },
  });
};

const unseen = (value, path, seen, found) => {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}.${key}`;
    if (!seen.has(here)) found.push(here);
    else unseen(inner, here, seen, found);
  }
};

const problems = [];
let checked = 0;
for (const { from, package: name, object } of JSON.parse(readFileSync(0, "utf8"))) {
  const folder = new URL(`node_modules/@kubernetes-models/${name}/_schemas/`, import.meta.url);
  const version = object.apiVersion.split("/")[1];
  const file = readdirSync(folder).find((f) => f.toLowerCase().endsWith(`${version}${object.kind}.js`.toLowerCase()));
  const title = `${from}: ${object.kind} ${object.metadata.name}`;
  if (!file) {
    problems.push(`${title}: the package ${name} has no model of it`);
    continue;
  }
  const { validate } = await import(new URL(file, folder));
  if (!validate(object)) {
    for (const error of validate.errors) problems.push(`${title}: ${error.instancePath} ${error.keyword} ${JSON.stringify(error.params)}`);
  }
  const seen = new Set();
  validate(looked(object, "", seen));
  const found = [];
  unseen(object, "", seen, found);
  for (const field of found) problems.push(`${title}: ${field} is unknown to the model`);
  checked += 1;
}
console.log(JSON.stringify({ checked, problems }));
