// OpenAI's SDK for Node.js with a Smol behind it. Run by test_openai_node.py, with the address in SMOL_URL.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI, { toFile } from "openai";

const ai = new OpenAI({ baseURL: `${process.env.SMOL_URL}/v1`, apiKey: "any", maxRetries: 0 });
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const numbers = {
  type: "object",
  properties: { a: { type: "integer" }, b: { type: "integer" } },
  required: ["a", "b"],
  additionalProperties: false,
};
const add = { type: "function", function: { name: "add", description: "Add two numbers", parameters: numbers } };
const say = (content, more = {}) =>
  ai.chat.completions.create({ model: "smol", messages: [{ role: "user", content }], ...more });

test("models are listed and found", async () => {
  const found = [];
  for await (const model of ai.models.list()) found.push(model.id);
  assert.ok(found.includes("smol"));
  assert.equal((await ai.models.retrieve("smol")).object, "model");
  await assert.rejects(ai.models.retrieve("nobody"), (error) =>
    error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && Boolean(error.requestID));
});

test("embeddings are unpacked, and near where spelling is", async () => {
  const input = ["resize a photo", "resizing photos", "boil an egg"];
  const [a, b, c] = (await ai.embeddings.create({ model: "smol-embed", input })).data.map((each) => each.embedding);
  const dot = (x, y) => x.reduce((sum, each, at) => sum + each * y[at], 0);
  assert.equal(a.length, 512);
  assert.ok(dot(a, b) > dot(a, c) + 0.1);
});

test("a question is answered", async () => {
  const answer = await say("6*7");
  assert.match(answer.choices[0].message.content, /42/);
  assert.equal(answer.choices[0].message.refusal, null);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("the streaming helper puts an answer together", async () => {
  const stream = ai.chat.completions.stream({
    model: "smol", messages: [{ role: "user", content: "convert 5 miles to km" }], stream_options: { include_usage: true },
  });
  let words = "";
  stream.on("content", (delta) => { words += delta; });
  const final = await stream.finalChatCompletion();
  assert.match(words, /8\.04672 km/);
  assert.equal(final.choices[0].message.content, words);
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.ok((await stream.totalUsage()).total_tokens > 0);
});

test("a stream that is left ends", async () => {
  const stream = await say("help", { stream: true });
  for await (const chunk of stream) { assert.equal(chunk.object, "chat.completion.chunk"); break; }
  assert.ok(stream.controller.signal.aborted);
  assert.match((await say("1+1")).choices[0].message.content, /2/);
});

test("tools are run by the helper, there and back", async () => {
  const called = [];
  const runner = ai.chat.completions.runTools({
    model: "smol",
    messages: [{ role: "user", content: "Please add 3 and 4" }],
    tools: [{ type: "function", function: { ...add.function, parse: JSON.parse, function: ({ a, b }) => { called.push([a, b]); return String(a + b); } } }],
  });
  assert.match(await runner.finalContent(), /7/);
  assert.deepEqual(called, [[3, 4]]);
});

test("tools stream in pieces", async () => {
  const stream = ai.chat.completions.stream({ model: "smol", messages: [{ role: "user", content: "Please add 3 and 4" }], tools: [add] });
  const [call] = (await stream.finalChatCompletion()).choices[0].message.tool_calls;
  assert.equal(call.type, "function");
  assert.deepEqual(JSON.parse(call.function.arguments), { a: 3, b: 4 });
});

test("an answer keeps to a schema", async () => {
  const schema = { type: "object", properties: { result: { type: "integer" } }, required: ["result"], additionalProperties: false };
  const answer = await ai.chat.completions.parse({
    model: "smol", messages: [{ role: "user", content: "convert 3000 m to km" }],
    response_format: { type: "json_schema", json_schema: { name: "x", strict: true, schema } },
  });
  assert.deepEqual(Object.keys(JSON.parse(answer.choices[0].message.content)), ["result"]);
});

test("wrong parameters are named", async () => {
  for (const [more, param] of [[{ temperature: 9 }, "temperature"], [{ logprobs: true }, "logprobs"], [{ temprature: 1 }, "temprature"]]) {
    await assert.rejects(say("1+1", more), (error) => error instanceof OpenAI.BadRequestError && error.param === param);
  }
});

test("pictures are looked at, and addresses are not fetched", async () => {
  const look = (url) => say([{ type: "text", text: "What is in this picture?" }, { type: "image_url", image_url: { url } }]);
  assert.ok((await look(`data:image/png;base64,${PNG}`)).choices[0].message.content);
  await assert.rejects(look("http://127.0.0.1/a.png"), OpenAI.BadRequestError);
});

test("responses answer, stream and go on", async () => {
  const first = await ai.responses.create({ model: "smol", input: "6*7" });
  assert.match(first.output_text, /42/);
  assert.equal((await ai.responses.retrieve(first.id)).output_text, first.output_text);
  const stream = ai.responses.stream({ model: "smol", input: "6*7" });
  const kinds = [];
  for await (const event of stream) kinds.push(event.type);
  assert.equal(kinds[0], "response.created");
  assert.equal(kinds.at(-1), "response.completed");
  assert.match((await stream.finalResponse()).output_text, /42/);
  const called = await ai.responses.create({
    model: "smol", input: "Please add 3 and 4", tools: [{ type: "function", name: "add", parameters: numbers, strict: true }],
  });
  const output = [{ type: "function_call_output", call_id: called.output[0].call_id, output: "7" }];
  const again = await ai.responses.create({ model: "smol", previous_response_id: called.id, input: output });
  assert.match(again.output_text, /7/);
  await ai.responses.delete(first.id);
  await assert.rejects(ai.responses.retrieve(first.id), OpenAI.NotFoundError);
});

test("the older kind of completion answers and streams", async () => {
  assert.match((await ai.completions.create({ model: "smol", prompt: "6*7" })).choices[0].text, /42/);
  let words = "";
  for await (const chunk of await ai.completions.create({ model: "smol", prompt: "6*7", stream: true })) words += chunk.choices[0].text;
  assert.match(words, /42/);
});

test("files come back as they went", async () => {
  const bytes = Buffer.from(PNG, "base64");
  const file = await ai.files.create({ file: await toFile(bytes, "dot.png", { type: "image/png" }), purpose: "vision" });
  assert.equal(file.bytes, bytes.length);
  assert.deepEqual(Buffer.from(await (await ai.files.content(file.id)).arrayBuffer()), bytes);
  assert.equal((await ai.files.delete(file.id)).deleted, true);
  await assert.rejects(ai.files.retrieve(file.id), OpenAI.NotFoundError);
});
