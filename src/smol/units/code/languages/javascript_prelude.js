// What programs find besides the language itself: console, timers, files, standard input. Leaves the runner its hooks.
// All that passes between the two is JSON: other text would end at its first NUL, and long sums of texts not pass at all.
globalThis.__hooks = (function () {
  "use strict";
  const { parse, stringify } = JSON;
  const host = {};
  for (const name of ["write", "readline", "readFile", "writeFile", "problem", "now"]) {
    const hook = globalThis[`__${name}`];
    host[name] = (...given) => parse(hook(stringify(given)));
    delete globalThis[`__${name}`];
  }
  const timers = new Map();
  let lastTimer = 0;
  const well = (text) => String(text).toWellFormed();

  function quoted(value) {
    return stringify(value).toWellFormed();
  }

  function inspect(value, seen = []) {
    if (typeof value === "string") return seen.length ? quoted(value) : value;
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "function") return `[Function: ${value.name || "(anonymous)"}]`;
    if (typeof value === "symbol") return value.toString();
    if (value === null || typeof value !== "object") return Object.is(value, -0) ? "-0" : String(value);
    if (value instanceof Error) return described(value);
    if (value instanceof Date || value instanceof RegExp) return String(value);
    if (seen.includes(value)) return "[Circular]";
    if (seen.length >= 4) return Array.isArray(value) ? "[Array]" : "[Object]";
    const inner = (each) => inspect(each, [...seen, value]);
    const listed = (parts, open, close) => {
      const shown = parts.slice(0, 100);
      if (parts.length > 100) shown.push(`... ${parts.length - 100} more`);
      return shown.length ? `${open} ${shown.join(", ")} ${close}` : open + close;
    };
    if (Array.isArray(value) || ArrayBuffer.isView(value)) return listed(Array.from(value, inner), "[", "]");
    if (value instanceof Set) return `Set ${listed(Array.from(value, inner), "{", "}")}`;
    if (value instanceof Map)
      return `Map ${listed(Array.from(value, ([key, each]) => `${inner(key)} => ${inner(each)}`), "{", "}")}`;
    if (value instanceof Promise) return "Promise {}";
    const kind = Object.getPrototypeOf(value)?.constructor?.name;
    const parts = Object.entries(value).map(([key, each]) => {
      return `${/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? key : quoted(key)}: ${inner(each)}`;
    });
    return (kind && kind !== "Object" ? `${kind} ` : "") + listed(parts, "{", "}");
  }

  // An error with the frames that are the program's own: below them is one that is called by `guarded`; above, what failed here.
  function described(error) {
    if (!(error instanceof Error)) return inspect(error, [null]);
    const frames = String(error.stack).split("\n").filter((line) => line.includes("<input>"));
    const above = frames.findIndex((line) => line.includes("at succeeded (")) < 0 ? 0 : 2;
    const below = frames.findLastIndex((line) => line.includes("at guarded ("));
    return [`${error.name}: ${error.message}`, ...frames.slice(above, below < 0 ? undefined : below - 1)].join("\n");
  }

  // What a hook of the host gives; null for a failure, which the host then explains.
  function succeeded(value) {
    if (value === null) throw new Error(host.problem());
    return value;
  }

  function print(stream, values) {
    host.write(stream, well(values.map((each) => inspect(each)).join(" ") + "\n"));
  }

  function isJson(value, depth = 0) {
    if (value === null || typeof value === "string" || typeof value === "boolean") return true;
    if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
    if (typeof value !== "object" || depth > 100) return false;
    if (Array.isArray(value)) return value.every((each) => isJson(each, depth + 1));
    return (
      [Object.prototype, null].includes(Object.getPrototypeOf(value)) &&
      Object.values(value).every((each) => isJson(each, depth + 1))
    );
  }

  function later(work, milliseconds, given, again) {
    const pause = Math.max(again ? 1 : 0, Number(milliseconds) || 0);
    timers.set(++lastTimer, { at: host.now() + pause, pause: again ? pause : null, run: () => void work(...given) });
    return lastTimer;
  }

  Object.assign(globalThis, {
    console: {
      log: (...values) => print(1, values),
      info: (...values) => print(1, values),
      debug: (...values) => print(1, values),
      warn: (...values) => print(2, values),
      error: (...values) => print(2, values),
    },
    print: (...values) => print(1, values),
    readline: () => host.readline(),
    readFile: (path) => succeeded(host.readFile(well(path))),
    writeFile: (path, text) => void succeeded(host.writeFile(well(path), well(text))),
    setTimeout: (work, milliseconds, ...given) => later(work, milliseconds, given, false),
    setInterval: (work, milliseconds, ...given) => later(work, milliseconds, given, true),
    clearTimeout: (name) => void timers.delete(name),
    clearInterval: (name) => void timers.delete(name),
  });

  let settled = null;
  const settle = (ok, value) => {
    settled = ok ? told(value) : { error: well(described(value)) };
  };
  const told = (value) => {
    if (value === undefined) return {};
    return isJson(value) ? { json: stringify(value) } : { text: well(inspect(value, [null])) };
  };
  const guarded = (work) => {
    try {
      const value = work();
      if (!(value instanceof Promise)) return told(value);
      value.then((found) => settle(true, found), (error) => settle(false, error));
      return { waits: true };
    } catch (error) {
      return { error: well(described(error)) };
    }
  };

  return {
    start: (source) => stringify(guarded(() => (0, eval)(parse(source)))),
    // Milliseconds until the next timer; negative when there is none.
    pause: () => Math.max(0, Math.min(...Array.from(timers.values(), (each) => each.at)) - host.now()),
    idle: () => timers.size === 0,
    tick: () => {
      const [name, timer] = [...timers].reduce((first, each) => (each[1].at < first[1].at ? each : first));
      if (timer.pause === null) timers.delete(name);
      else timer.at = host.now() + timer.pause;
      return stringify(guarded(timer.run));
    },
    settled: () => stringify(settled),
  };
})();
