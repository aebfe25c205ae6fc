// Every operation as a form, made from its schema, with what to write elsewhere for the same.
import { $, ask, call, events, make } from "./common.js";

const operations = new Map();
let stopping = null;

export async function startPlayground(units) {
  const groups = await Promise.all(units.map(async (name) => {
    // A unit that can't be described says why in the list of units; the others have their forms.
    const unit = await ask(`/v1/units/${name}`).then((answer) => answer.json()).catch(() => null);
    if (!unit) return null;
    const group = document.createElement("optgroup");
    group.label = name;
    for (const operation of unit.operations) {
      const full = `${name}.${operation.name}`;
      operations.set(full, operation);
      group.append(new Option(`${full}: ${operation.summary}`, full));
    }
    return group;
  }));
  $("operation").append(...groups.filter(Boolean));
  const wanted = decodeURIComponent(location.hash.slice(1));
  $("operation").value = operations.has(wanted) ? wanted : "math.evaluate";
  $("operation").addEventListener("change", choose);
  $("form").addEventListener("submit", run);
  $("form").addEventListener("input", showEquivalents);
  $("stop").addEventListener("click", () => stopping?.abort());
  choose();
}

const chosen = () => $("operation").value;
const schemas = (schema) => [schema, ...(schema.anyOf ?? [])];
const isFile = (schema) => schemas(schema).some((each) => each["x-smol-attachment"] || each.items?.["x-smol-attachment"]);
const isKind = (schema, kind) => schemas(schema).some((each) => each.type === kind);
const choices = (schema) => schemas(schema).find((each) => each.enum)?.enum;

function choose() {
  const operation = operations.get(chosen());
  if (!operation) return;
  $("summary").textContent = operation.description || "";
  $("result").textContent = $("took").textContent = "";
  const required = operation.input.required ?? [];
  $("form").replaceChildren(...Object.entries(operation.input.properties ?? {}).map(([name, schema]) => {
    const field = make("div", "", "field");
    const label = make("label", required.includes(name) ? `${name} *` : name);
    const input = inputFor(name, schema);
    input.id = `argument-${name}`;
    input.name = name;
    input.required = required.includes(name) && input.type !== "checkbox";
    label.htmlFor = input.id;
    field.append(label, input);
    if (schema.description) field.append(make("div", schema.description, "quiet"));
    return field;
  }));
  showEquivalents();
}

function inputFor(name, schema) {
  const options = choices(schema);
  if (options) {
    const select = document.createElement("select");
    select.append(...options.map((value) => new Option(value, value, false, value === schema.default)));
    return select;
  }
  const simple = isKind(schema, "integer") || isKind(schema, "number") || isKind(schema, "boolean") || isFile(schema);
  const long = !simple && (!isKind(schema, "string") || ["program", "code", "expression"].includes(name));
  const input = document.createElement(long ? "textarea" : "input");
  if (isFile(schema)) {
    input.type = "file";
    input.multiple = isKind(schema, "array");
  } else if (isKind(schema, "boolean")) {
    input.type = "checkbox";
    input.checked = schema.default === true;
  } else if (schema.default !== undefined && schema.default !== null) {
    input.placeholder = typeof schema.default === "string" ? schema.default : JSON.stringify(schema.default);
  }
  return input;
}

function read() {
  const properties = operations.get(chosen()).input.properties ?? {};
  const values = {};
  const files = [];
  for (const [name, schema] of Object.entries(properties)) {
    const input = $(`argument-${name}`);
    if (input.type === "file") {
      files.push(...[...input.files].map((file) => [name, file]));
    } else if (input.type === "checkbox") {
      if (input.checked !== (schema.default === true)) values[name] = input.checked;
    } else if (input.value !== "" && input.value !== String(schema.default)) {
      values[name] = parse(input.value, schema);
    }
  }
  return { values, files };
}

function parse(text, schema) {
  if (isKind(schema, "string")) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

async function run(event) {
  event.preventDefault();
  const { values, files } = read();
  let body = values;
  if (files.length) {
    body = new FormData();
    body.set("arguments", JSON.stringify(values));
    files.forEach(([name, file]) => body.append(name, file));
  }
  stopping?.abort();
  stopping = new AbortController();
  $("stop").hidden = false;
  $("result").textContent = "";
  const started = performance.now();
  try {
    const answer = await call(chosen(), body, stopping.signal);
    await show(answer);
  } catch (error) {
    $("result").textContent = error.name === "AbortError" ? "stopped" : `${error.code ?? "error"}: ${error.message}`;
  }
  $("took").textContent = `${(performance.now() - started).toFixed(1)} ms`;
  $("stop").hidden = true;
}

async function show(answer) {
  const kind = answer.headers.get("content-type") ?? "";
  if (kind.startsWith("text/event-stream")) {
    for await (const { name, data } of events(answer)) {
      if (name !== "end") $("result").append(`${name ? `${name} ` : ""}${JSON.stringify(data)}\n`);
    }
  } else if (kind.startsWith("application/json")) {
    const text = JSON.stringify(await answer.json(), null, 2);
    $("result").textContent = text.length > 100_000 ? `${text.slice(0, 100_000)}…` : text;
  } else {
    $("result").textContent = `${(await answer.blob()).size} bytes of ${kind}`;
  }
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const python = (value) => JSON.stringify(value)
  .replace(/"(?:[^"\\]|\\.)*"|\btrue\b|\bfalse\b|\bnull\b/g, (word) => ({ true: "True", false: "False", null: "None" })[word] ?? word);

function showEquivalents() {
  const name = chosen();
  const { values, files } = read();
  const url = `${location.origin}/v1/units/${name.replace(".", "/")}`;
  const fields = files.map(([field, file]) => ` \\\n  -F ${field}=@${quoted(file.name)}`).join("");
  const curl = files.length
    ? `curl ${url}${fields} \\\n  -F arguments=${quoted(JSON.stringify(values))}`
    : `curl ${url} \\\n  -H 'content-type: application/json' -d ${quoted(JSON.stringify(values))}`;
  const given = [...files.map(([field, file]) => `${field}=${python(file.name)}`),
    ...Object.entries(values).map(([field, value]) => `${field}=${python(value)}`)];
  const stream = operations.get(name).streaming;
  const code = stream
    ? `for item in s.${name}.stream(${given.join(", ")}):\n        print(item)`
    : `print(s.${name}(${given.join(", ")}))`;
  const required = operations.get(name).input.required ?? [];
  const plain = (value) => quoted(typeof value === "string" ? value : JSON.stringify(value));
  const words = [...files.map(([field, file]) => [field, file.name]), ...Object.entries(values)].map(([field, value]) => {
    if (required.includes(field)) return plain(value);
    return value === true ? `--${field.replaceAll("_", "-")}` : `--${field.replaceAll("_", "-")} ${plain(value)}`;
  });
  const shown = { curl, Python: `import smol\n\nwith smol.connect() as s:\n    ${code}`,
    "Command line": `smol ${name.replace(".", " ")} ${words.join(" ")}`.trim() };
  $("equivalents").replaceChildren(...Object.entries(shown).flatMap(([title, text]) => {
    const block = make("pre", text);
    block.tabIndex = 0;
    block.setAttribute("role", "group");
    block.setAttribute("aria-label", title);
    return [make("div", title, "quiet"), block];
  }));
}
