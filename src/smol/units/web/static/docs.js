// Every operation for people to read, from the same document that programs read.
import { $, ask, listenForKey, make } from "./common.js";

let components = {};

const target = (schema) => components[schema.$ref.split("/").pop()] ?? {};

// A type in words: "text", "list of number", "red or blue", "Box".
function words(schema) {
  if (schema.$ref) return target(schema).title ?? "object";
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return [...new Set(schema.anyOf.map(words))].join(" or ");
  if (schema.pattern?.startsWith("^data:")) return "file";
  if (schema.type === "array") return schema.items ? `list of ${words(schema.items)}` : "list";
  if (schema.type === "object" && !schema.properties && typeof schema.additionalProperties === "object") {
    return `map to ${words(schema.additionalProperties)}`;
  }
  const names = { string: "text", integer: "whole number", boolean: "true or false", undefined: "anything" };
  return names[schema.type] ?? schema.type;
}

function limits({ minimum, maximum, minLength, maxLength, minItems, maxItems }) {
  const between = (least, most, what) => {
    if (least !== undefined && most !== undefined) return `${least} to ${most}${what}`;
    if (least !== undefined) return `at least ${least}${what}`;
    return most !== undefined ? `at most ${most}${what}` : "";
  };
  return [between(minimum, maximum, ""), between(minLength, maxLength, " characters"), between(minItems, maxItems, " items")]
    .filter(Boolean).join(", ");
}

// The objects that a schema speaks of, each once.
function* objects(schema, seen = new Set()) {
  if (!schema || typeof schema !== "object") return;
  if (schema.$ref) {
    if (seen.has(schema.$ref)) return;
    seen.add(schema.$ref);
    yield* objects(target(schema), seen);
    return;
  }
  if (schema.properties) yield schema;
  const parts = [schema.items, schema.additionalProperties, ...(schema.anyOf ?? []), ...Object.values(schema.properties ?? {})];
  for (const part of parts) yield* objects(part, seen);
}

// A table of its fields; columns that would be empty are left out.
function fields(schema, title, input) {
  const columns = [["Type", (name, field) => [words(field), limits(field)].filter(Boolean).join(", ")]];
  if (input) {
    columns.push(["Default", (name, field) => (schema.required?.includes(name) ? "required" : JSON.stringify(field.default) ?? "")]);
  }
  const entries = Object.entries(schema.properties);
  if (entries.some(([, field]) => field.description)) columns.push(["Meaning", (name, field) => field.description ?? ""]);
  const table = make("table");
  table.append(make("caption", title));
  const head = table.createTHead().insertRow();
  for (const heading of ["Name", ...columns.map(([each]) => each)]) {
    const cell = head.appendChild(make("th", heading));
    cell.scope = "col";
  }
  const body = table.createTBody();
  for (const [name, field] of entries) {
    const row = body.insertRow();
    const first = row.appendChild(make("th"));
    first.scope = "row";
    first.append(make("code", name));
    row.append(...columns.map(([, text]) => make("td", text(name, field))));
  }
  const scroll = make("div", "", "scroll-x");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", title);
  scroll.append(table);
  return scroll;
}

// `title` is that of the schema itself; what it speaks of has names of its own.
function tables(schema, title, input) {
  return [...objects(schema)].flatMap((each) => [
    ...(each.description ? [make("p", each.description, "text")] : []),
    fields(each, each === schema ? title : each.title ?? "object", input)]);
}

function section(path, operation) {
  const name = operation.operationId;
  const details = make("details", "", "operation");
  details.id = name;
  const summary = make("summary");
  summary.append(make("code", name), ` ${operation.summary}`);
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.append(...contents(path, operation));
  });
  details.dataset.words = JSON.stringify([name, operation.summary, operation.description, Object.keys(taken(operation).properties ?? {})]).toLowerCase();
  return details;
}

const taken = (operation) => operation.requestBody.content["application/json"].schema;

function contents(path, operation) {
  const { streaming, idempotent, read_only, destructive } = operation["x-smol"];
  const traits = [["streams", streaming], ["reads only", read_only], ["may be repeated", idempotent], ["removes or replaces", destructive]];
  const top = make("p", "", "quiet");
  const link = make("a", "Try it");
  link.href = `/#${operation.operationId}`;
  top.append(make("code", `POST ${path}`), " · ", ...traits.filter(([, on]) => on).map(([trait]) => `${trait} · `), link);
  const answer = operation.responses["200"];
  const given = answer.content["application/json"]?.schema;
  let result = "Answers with a file.";
  if (streaming) result = answer.description;
  else if (given) result = `Answers with ${given.properties ? given.title : words(given)}.`;
  return [
    top,
    ...(operation.description ? [make("p", operation.description, "text")] : []),
    ...tables(taken(operation), "Arguments", true),
    make("p", result),
    ...tables(given, given?.title ?? "Result", false),
  ];
}

function show(found) {
  components = found.components.schemas;
  $("version").textContent = found.info.version;
  const groups = found.tags.map(({ name, description }) => {
    const group = make("section", "", "group");
    const heading = make("h3", name);
    heading.append(" ", make("small", description));
    const own = Object.entries(found.paths).filter(([, { post }]) => post?.tags[0] === name);
    group.append(heading, ...own.map(([path, { post }]) => section(path, post)));
    return group;
  });
  $("reference").replaceChildren(...groups);
  filter();
  openNamed();
}

// An address may end with the name of an operation.
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!named?.classList.contains("operation")) return;
  named.open = true;
  named.scrollIntoView();
}

function filter() {
  const wanted = $("filter").value.toLowerCase().split(/\s+/);
  for (const group of document.querySelectorAll(".group")) {
    const each = [...group.querySelectorAll(".operation")];
    each.forEach((details) => { details.hidden = !wanted.every((word) => details.dataset.words.includes(word)); });
    group.hidden = each.every((details) => details.hidden);
  }
  const all = document.querySelectorAll(".operation");
  $("state").textContent = `${[...all].filter((details) => !details.hidden).length} of ${all.length} operations`;
}

async function read() {
  $("state").className = "quiet";
  try {
    show(await (await ask("/openapi.json")).json());
  } catch (error) {
    $("state").textContent = error.message;
    $("state").className = "bad";
  }
}

listenForKey(read);
$("filter").addEventListener("input", filter);
addEventListener("hashchange", openNamed);
read();
