// Programs that were submitted. A run opens to its history: each step with what it gave, its time and its memory.
import { $, call, make, mib } from "./common.js";

const opened = new Set();
let shown = "";

export async function showPrograms() {
  const runs = await (await call("executor.list", { limit: 20 })).json();
  const told = JSON.stringify(runs);
  if (!runs.length || told === shown) return; // Nobody who reads loses their place for nothing.
  shown = told;
  $("runs").replaceChildren(...await Promise.all(runs.map(entry)));
}

async function entry(run) {
  const item = make("li", "", "run");
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  const took = run.ended_ms ? `, ${run.ended_ms - run.created_ms} ms` : "";
  summary.append(make("strong", run.name || run.id), " ", make("span", run.state, run.state === "failed" ? "bad" : ""),
    " ", make("span", `${new Date(run.created_ms).toLocaleString()}${took}, ${run.id}`, "quiet"));
  details.append(summary);
  details.open = opened.has(run.id);
  if (details.open) details.append(await history(run));
  details.addEventListener("toggle", async () => {
    if (details.open === opened.has(run.id)) return;
    if (!details.open) return opened.delete(run.id);
    opened.add(run.id);
    details.querySelector("ol")?.remove();
    details.append(await history(run));
  });
  item.append(details);
  return item;
}

async function history(run) {
  const list = make("ol", "", "log");
  if (run.message) list.append(make("li", `${run.code}: ${run.message}`, "bad"));
  try {
    list.append(...(await (await call("executor.history", { run: run.id })).json()).map(step));
  } catch (error) {
    list.append(make("li", error.message, "bad"));
  }
  return list;
}

const brief = (text) => (text.length > 300 ? `${text.slice(0, 300)}…` : text);

function step(each) {
  const item = document.createElement("li");
  const took = each.ended_ms === null ? "runs" : `${each.ended_ms - each.began_ms} ms`;
  const attempts = each.attempts > 1 ? `, ${each.attempts} attempts` : "";
  const memory = each.memory_bytes ? `, ${mib(each.memory_bytes)}` : "";
  item.append(make("strong", each.id || each.path), ` ${each.operation} `, make("span", took + attempts + memory, "quiet"));
  if (each.given) item.append(make("code", `← ${brief(each.given)}`));
  item.append(each.message ? make("code", `${each.code}: ${each.message}`, "bad") : make("code", `→ ${brief(each.value ?? "")}`));
  return item;
}
