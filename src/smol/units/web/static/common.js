// What every page needs: elements, and requests with the key that the visitor gave.

export const $ = (id) => document.getElementById(id);

export function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

// Everything goes through here: with the key, and with errors as errors.
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem("key");
  if (key) headers.set("authorization", `Bearer ${key}`);
  const answer = await fetch(path, { ...options, headers });
  if (answer.status === 401) $("key-form").hidden = false;
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    const error = new Error(said.detail ?? said.error?.message ?? `status ${answer.status}`);
    error.code = said.code;
    throw error;
  }
  return answer;
}

export async function call(operation, body = {}, signal) {
  const path = `/v1/units/${operation.replace(".", "/")}`;
  const options = body instanceof FormData
    ? { body } : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  return ask(path, { method: "POST", signal, ...options });
}

// Server-sent events of an answer, one object each.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const name = /^event: (.*)$/m.exec(part)?.[1] ?? "";
      const data = /^data: (.*)$/m.exec(part)?.[1];
      if (data !== undefined && data !== "[DONE]") yield { name, data: JSON.parse(data) };
    }
  }
}

// Do `then` again once there is a key.
export function listenForKey(then) {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", $("key").value.trim());
    $("key-form").hidden = true;
    then();
  });
}

export const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
