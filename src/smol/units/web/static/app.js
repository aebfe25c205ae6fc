// The page: memory and units as they are, a photo looked at, a chat. Operations are in playground.js, runs in programs.js.
import { $, ask, call, events, listenForKey, make, mib } from "./common.js";
import { startPlayground } from "./playground.js";
import { showPrograms } from "./programs.js";

const hash = (name) => [...name].reduce((sum, letter) => (sum * 33 + letter.charCodeAt(0)) % 65536, 5381);
const hue = (name) => (hash(name) * 137.5) % 360; // The golden angle, so that neighbours differ.
const color = (name) => `hsl(${hue(name)} 55% 45%)`;

// Each part is as wide as what is reserved; as much of it is solid as is in use.
function showMemory(memory, processes) {
  const used = new Map(processes.map((entry) => [entry.name, entry.pss_bytes]));
  const parts = [
    ...memory.others.map((entry) => ({ name: entry.name, reserved: entry.size_bytes, uses: used.get(entry.name) ?? entry.size_bytes })),
    ...memory.workers.map((entry) => ({ name: entry.name, reserved: entry.reserved_bytes, uses: used.get(entry.name) ?? entry.measured_bytes })),
  ];
  const words = (part) => `${part.name} ${mib(part.uses)} of ${mib(part.reserved)} reserved`;
  $("memory-sum").textContent = `${mib(memory.used_bytes)} in use, ${mib(memory.reserved_bytes)} reserved of ${mib(memory.budget_bytes)}`;
  const means = { hard: "the kernel keeps the budget", process: "limits of each process and polling keep the budget", none: "nothing enforces the budget" };
  $("guarantee").textContent = [means[memory.guarantee], memory.missing, memory.level_reason].filter(Boolean).join(" · ");
  $("bar").replaceChildren(...parts.map((part) => {
    const span = make("span");
    const solid = 100 * Math.min(1, part.uses / Math.max(1, part.reserved));
    const tone = color(part.name);
    span.style.setProperty("width", `${100 * Math.max(part.reserved, part.uses) / memory.budget_bytes}%`);
    span.style.setProperty("background", `linear-gradient(to right, ${tone} ${solid}%, color-mix(in srgb, ${tone} 35%, transparent) ${solid}%)`);
    span.title = words(part);
    return span;
  }));
  $("bar").setAttribute("aria-label", parts.map(words).join(", "));
  $("legend").replaceChildren(...parts.map((part) => {
    const item = make("li");
    const dot = make("span", "", "dot");
    dot.style.setProperty("background", color(part.name));
    item.append(dot, words(part));
    return item;
  }));
}

let lastDecisions = "";
function showDecisions(occasions) {
  const told = JSON.stringify(occasions);
  if (!occasions.length || told === lastDecisions) return; // Whoever reads them keeps their place.
  lastDecisions = told;
  $("decisions").replaceChildren(...occasions.map(({ at, decision, reason }) =>
    make("li", `${new Date(1000 * at).toLocaleTimeString()} ${decision}: ${reason}`)));
}

function showUnits(units) {
  $("units").replaceChildren(...units.map((unit) => {
    const item = make("li");
    item.append(make("strong", unit.name), make("span", unit.state), make("span", unit.description, "quiet"));
    if (unit.error) item.append(make("span", unit.error, "error"));
    return item;
  }));
}

let shownAt = 0;
async function refresh() {
  if (document.hidden) return;
  try {
    const [status, memory, occasions, processes, units] = await Promise.all(
      ["lifecycle.status", "memory.status", "memory.explain", "lifecycle.processes", "lifecycle.units"].map(
        async (name) => (await call(name)).json()));
    $("version").textContent = status.version;
    $("state").textContent = `up ${Math.round(status.uptime_seconds / 60)} min, ${status.calls} calls`;
    $("state").className = "quiet";
    showMemory(memory, processes);
    showDecisions(occasions);
    showUnits(units);
    if (!shownAt) startPlayground(units.filter((unit) => unit.kind).map((unit) => unit.name));
    if (shownAt++ % 5 === 0 && units.some((unit) => unit.name === "executor")) await showPrograms();
  } catch (error) {
    $("state").textContent = error.message;
    $("state").className = "bad";
  }
}

// A photo --------------------------------------------------------------------------------------

let photo = null;

async function look(blob) {
  photo = blob;
  $("with-photo").checked = true;
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const canvas = $("canvas");
  const scale = Math.min(1, 1024 / Math.max(bitmap.width, bitmap.height));
  canvas.width = bitmap.width * scale;
  canvas.height = bitmap.height * scale;
  canvas.hidden = false;
  $("drop-hint").hidden = true;
  const draw = canvas.getContext("2d");
  draw.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  $("seen").textContent = "looking…";
  $("found").replaceChildren();
  const form = new FormData();
  form.set("image", blob, "photo.jpg");
  const started = performance.now();
  try {
    const found = await (await call("detect.image", form)).json();
    const took = `${Math.round(performance.now() - started)} ms, ${found.timing.inference_ms.toFixed(0)} of it thinking`;
    $("seen").textContent = `${found.objects.length} found in ${took} (${found.model})`;
    found.objects.forEach((object) => box(draw, object, canvas.width / found.width));
    $("found").replaceChildren(...found.objects.map((object) => make("li", `${object.label} ${Math.round(object.score * 100)} %`)));
  } catch (error) {
    await classify(form, error);
  }
}

async function classify(form, error) {
  try {
    const found = await (await call("classify.image", form)).json();
    $("seen").textContent = `no boxes (${error.message.split(":")[0]}); as a whole, by ${found.model}:`;
    $("found").replaceChildren(...found.classes.map((each) => make("li", `${each.label} ${Math.round(each.score * 100)} %`)));
  } catch (other) {
    $("seen").textContent = other.message;
  }
}

function box(draw, object, scale) {
  const { x1, y1, x2, y2 } = object.box;
  draw.lineWidth = 3;
  draw.strokeStyle = draw.fillStyle = color(object.label);
  draw.strokeRect(x1 * scale, y1 * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  draw.font = "600 14px system-ui, sans-serif";
  const text = `${object.label} ${Math.round(object.score * 100)}%`;
  const top = Math.max(0, y1 * scale - 20);
  draw.fillRect(x1 * scale, top, draw.measureText(text).width + 10, 20);
  draw.fillStyle = "#fff";
  draw.fillText(text, x1 * scale + 5, top + 15);
}

async function toggleCamera() {
  const video = $("video");
  if (video.srcObject) return stopCamera();
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    $("seen").textContent = `no camera: ${error.message}`;
    return;
  }
  video.hidden = $("shoot").hidden = false;
  $("canvas").hidden = $("drop-hint").hidden = true;
  $("camera").textContent = "Stop the camera";
  await video.play();
}

function stopCamera() {
  const video = $("video");
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = $("shoot").hidden = true;
  $("camera").textContent = "Use the camera";
}

async function shoot() {
  const video = $("video");
  const shot = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  shot.getContext("2d").drawImage(video, 0, 0);
  const blob = await shot.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  stopCamera();
  await look(blob);
}

const imageIn = (items) => [...items].find((item) => item.type.startsWith("image/"));

function listenForPhotos() {
  const drop = $("drop");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = imageIn(event.dataTransfer.files);
    if (file) look(file);
  });
  document.addEventListener("paste", (event) => {
    const item = imageIn(event.clipboardData.items);
    if (item) look(item.getAsFile());
  });
  $("file").addEventListener("change", () => $("file").files[0] && look($("file").files[0]));
  $("camera").addEventListener("click", toggleCamera);
  $("shoot").addEventListener("click", shoot);
}

// A chat ---------------------------------------------------------------------------------------

const said = [];

const asDataUri = (blob) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.readAsDataURL(blob);
});

async function chat(event) {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text) return;
  $("question").value = "";
  const log = $("chat");
  log.append(make("p", text, "mine"));
  const answer = log.appendChild(make("p", "…"));
  log.scrollTop = log.scrollHeight;
  const content = [{ type: "text", text }];
  if ($("with-photo").checked && photo) content.push({ type: "image_url", image_url: { url: await asDataUri(photo) } });
  const question = { role: "user", content };
  try {
    const body = JSON.stringify({ model: "smol", stream: true, messages: [...said, question] });
    const stream = await ask("/v1/chat/completions", { method: "POST", body, headers: { "content-type": "application/json" } });
    let words = "";
    for await (const { data } of events(stream)) {
      if (data.error) throw new Error(data.error.message);
      words += data.choices[0]?.delta.content ?? "";
      answer.textContent = words || "…";
    }
    said.push({ role: "user", content: text }, { role: "assistant", content: words });
    said.splice(0, Math.max(0, said.length - 20));
  } catch (error) {
    answer.textContent = error.message;
    answer.classList.add("bad");
  }
  log.scrollTop = log.scrollHeight;
}

listenForKey(refresh);
$("chat-form").addEventListener("submit", chat);
listenForPhotos();
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, 2000);
refresh();
