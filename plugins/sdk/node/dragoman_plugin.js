"use strict";
// Turns one small class into a plugin of Dragoman.
//
//     const { serve } = require("./dragoman_plugin.js");
//
//     class Shout {
//       static doc = "Answers in capitals.";
//       static keys = { suffix: { type: "string", default: "!" } };
//       constructor(config) { this.suffix = config.suffix; }
//       async translate(request) { return request.text.toUpperCase() + this.suffix; }
//     }
//
//     if (require.main === module) serve(Shout);
//
// README.md of plugins/sdk/node is the author's manual. The file needs
// dragoman_plugin.proto beside it, and the packages @grpc/grpc-js and
// @grpc/proto-loader.
//
// Require it first: when the gateway has started the program, this keeps standard
// output for the gateway, so that what other modules print while they are loaded
// cannot be taken for the handshake.

const crypto = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

// As plugins/wire says.
const PROTOCOL = 1;
const COOKIE = ["DRAGOMAN_PLUGIN", "a plugin of dragoman"];
const SECRET = ["PLUGIN_SECRET_FD", "dragoman-secret"]; // a descriptor to read it from, and the header that carries it
const MAX_MESSAGE = 8 << 20; // bytes, either way
const MAX_DETAIL = 300; // characters of an error's detail that the gateway keeps
const GRACE = 1500; // milliseconds for calls in flight after Shutdown; the gateway kills after 3 seconds

/** What an error may be. The gateway counts anything else as provider_failed. */
const KINDS = [
  "invalid_request", "unsupported_language", "too_large", "unauthorized", "forbidden", "not_found", "overloaded",
  "unavailable", "rate_limited", "quota_exceeded", "deadline_exceeded", "provider_failed", "provider_refused",
  "bad_answer", "canceled", "internal",
];

/**
 * Why a request has no result. detail is a sentence for the client: no text of a
 * request, no key, nothing that an upstream server wrote. field is the path of the
 * request's field at fault. retryable says that another attempt may succeed,
 * retryAfter in how many milliseconds. cause is for the log alone, without keys.
 */
class PluginError extends Error {
  constructor(kind, detail, { field = "", retryable = false, retryAfter = 0, cause = "", usage, limits } = {}) {
    if (!KINDS.includes(kind)) throw new TypeError(`${kind} is no kind of error; known are ${KINDS.join(", ")}`);
    super(`${kind}: ${detail}`);
    Object.assign(this, { kind, detail, field, retryable, retryAfter, cause, usage, limits });
  }
}

/** What is wrong with a configuration, by key: {"models[1].path": "there is no such file"}. */
class ConfigError extends Error {
  constructor(mistakes) {
    super(Object.entries(mistakes).map(([key, detail]) => `${key}: ${detail}`).join("; "));
    this.mistakes = mistakes;
  }
}

// The process. This stands first, since it has to happen before anything is printed.

const host = process.env[COOKIE[0]] === COOKIE[1] ? takeOver() : null;

/** takeOver keeps standard output for the handshake, and takes the secret. */
function takeOver() {
  const host = { parent: process.ppid, secret: "", doubt: "" };
  process.stdout.write = process.stderr.write.bind(process.stderr);
  const fd = process.env[SECRET[0]];
  delete process.env[SECRET[0]]; // what this program starts has no use for it
  if (!fd) return host;
  try {
    if (!/^[0-9]+$/.test(fd) || Number(fd) < 3 || !fs.fstatSync(Number(fd)).isFIFO()) throw new Error("it names another file than the gateway's pipe");
    host.secret = fs.readFileSync(Number(fd), "utf8").trim();
    fs.closeSync(Number(fd));
    if (!host.secret) throw new Error("the gateway's pipe holds no secret");
  } catch (error) {
    host.doubt = `${SECRET[0]}: ${error.message}; does what starts this program close it?`;
  }
  return host;
}

/**
 * Ends the process group when the gateway is gone: at the end of standard input,
 * which the gateway holds open as long as it lives, and at a SIGTERM when the
 * parent is another one. While the gateway lives a SIGTERM is left to it, since
 * requests may be in flight.
 */
function guard() {
  const end = () => {
    try {
      process.kill(-process.pid, "SIGKILL");
    } catch {
      // This process leads no group.
    }
    process.exit(1);
  };
  process.on("SIGTERM", () => process.ppid !== host.parent && end());
  process.stdin.on("end", end).on("close", end).on("error", end).resume();
}

/** log writes a line that the gateway takes apart. Texts are never logged. */
function log(level, message, fields = {}) {
  process.stderr.write(JSON.stringify({ "@level": level, "@message": message, ...fields }) + "\n");
}

let grpc, loader;
try {
  grpc = require("@grpc/grpc-js");
  loader = require("@grpc/proto-loader");
} catch (error) {
  process.stderr.write(`dragoman_plugin: ${String(error.message).split("\n")[0]}; run npm install in ${__dirname}\n`);
  process.exit(1);
}

/**
 * serve serves classes until the gateway ends the program. A class with translate
 * is a provider, one with before or after is a stage; a program serves at most one
 * of each.
 */
function serve(...classes) {
  const name = path.basename(process.argv[1] || "plugin", ".js");
  const fail = (status, message) => {
    process.stderr.write(message + "\n");
    process.exit(status);
  };
  let program;
  try {
    program = new Program(name, classes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return fail(2, `${name}: ${error.message}`);
  }
  const listen = (address, ready) =>
    program.server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
      if (error) fail(1, `${name}: cannot listen on ${address}: ${error.message}`);
      else ready();
    });
  if (host) {
    const folder = process.env.PLUGIN_UNIX_SOCKET_DIR;
    if (!(process.env.PLUGIN_PROTOCOL_VERSIONS || "").split(",").includes(String(PROTOCOL))) {
      return fail(2, `${name}: speaks version ${PROTOCOL} of the protocol, which the gateway does not`);
    }
    if (!folder) return fail(2, `${name}: PLUGIN_UNIX_SOCKET_DIR names no folder for the socket`);
    guard();
    if (host.doubt) log("warn", `calls of other programs cannot be told from the gateway's: ${host.doubt}`);
    const socket = path.join(folder, "plugin.sock");
    return listen(`unix:${socket}`, () => fs.writeSync(1, `${PROTOCOL}|${PROTOCOL}|unix|${socket}|grpc|\n`));
  }
  if (process.argv.length === 4 && process.argv[2] === "--listen") {
    for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => program.end());
    return listen(process.argv[3], () => {});
  }
  fail(2, `${name} is a plugin of Dragoman, which starts it: name it in pipeline.yaml, "command: [node, ${path.basename(process.argv[1])}]".
To start it yourself: node ${process.argv[1]} --listen unix:PATH, and "address: unix:PATH" in pipeline.yaml.`);
}

// Configurations

const UNITS = { ns: 1e-6, us: 1e-3, "\u00b5s": 1e-3, "\u03bcs": 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const SIZES = { "": 1, B: 1, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Returns the milliseconds that a duration of pipeline.yaml says: "250ms", "1h30m", "0". */
function parseDuration(text) {
  const steps = typeof text === "string" ? [...text.matchAll(/([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)/g)] : [];
  if (text !== "0" && (steps.length === 0 || steps.map((step) => step[0]).join("") !== text)) {
    throw new RangeError("must be a duration, such as 250ms, 1.5s or 1h30m");
  }
  return steps.reduce((sum, step) => sum + Number(step[1]) * UNITS[step[2]], 0);
}

/** Returns the bytes that a size of pipeline.yaml says: "64MiB", 4096. */
function parseSize(text) {
  if (Number.isInteger(text) && text >= 0) return text;
  const found = typeof text === "string" && /^([0-9]+) *(|B|KB|MB|GB|KiB|MiB|GiB)$/.exec(text);
  if (!found) throw new RangeError("must be a size, such as 64MiB or 4096");
  return Number(found[1]) * SIZES[found[2]];
}

// What the formats of keys are called by the gateway, what it writes them as, and how they are read.
const FORMATS = {
  duration: { told: { format: "go-duration", type: ["string"] }, read: parseDuration },
  bytes: { told: { format: "size", type: ["string", "integer"] }, read: parseSize },
};

const TYPES = {
  string: (value) => typeof value === "string",
  integer: Number.isInteger,
  number: (value) => typeof value === "number",
  boolean: (value) => typeof value === "boolean",
  array: Array.isArray,
  object: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  null: (value) => value === null,
};

/** A class of the author's: what it can be configured as. */
class Part {
  constructor(author) {
    if (typeof author !== "function") throw new TypeError(`serve takes classes, got ${author}`);
    const has = (method) => typeof author.prototype?.[method] === "function";
    this.before = has("before");
    this.after = has("after");
    if (has("translate") === (this.before || this.after)) {
      throw new TypeError(`the class ${author.name} must have either translate, to be a provider, or before or after, to be a stage`);
    }
    this.author = author;
    this.role = has("translate") ? "ROLE_PROVIDER" : "ROLE_STAGE";
    this.keys = author.keys || {};
    for (const [key, schema] of Object.entries(this.keys)) {
      if (!TYPES.object(schema)) throw new TypeError(`${author.name}.keys.${key} must be a JSON Schema`);
    }
    this.schema = {
      type: "object",
      description: author.doc || "",
      properties: Object.fromEntries(Object.entries(this.keys).map(([key, schema]) => [key, { ...schema, ...FORMATS[schema.format]?.told }])),
      additionalProperties: false,
      required: Object.keys(this.keys).filter((key) => !("default" in this.keys[key])),
    };
  }

  describe() {
    const { role, before, after } = this;
    return { role, name: this.author.name, doc: this.author.doc || "", configSchema: Buffer.from(JSON.stringify(this.schema)), before, after };
  }

  /** Makes what the class describes from a configuration, or throws a ConfigError. */
  build(raw) {
    let given;
    try {
      given = JSON.parse(raw.length ? raw.toString() : "{}");
    } catch (error) {
      throw new ConfigError({ "": `the configuration is no JSON: ${error.name}` });
    }
    if (!TYPES.object(given)) throw new ConfigError({ "": "the configuration is no JSON object" });
    const mistakes = {};
    const config = {};
    for (const key of Object.keys(given)) {
      if (!(key in this.keys)) mistakes[key] = "there is no such key";
    }
    for (const [key, schema] of Object.entries(this.keys)) {
      if (!(key in given) && !("default" in schema)) {
        mistakes[key] = "it has no default, so it must be there";
        continue;
      }
      config[key] = key in given ? given[key] : structuredClone(schema.default);
      // The gateway has checked all of the schema, unless the keys are another provider's.
      const types = [schema.type ?? []].flat();
      const format = FORMATS[schema.format];
      if (format) {
        try {
          config[key] = format.read(config[key]);
        } catch (error) {
          mistakes[key] = error.message;
        }
      } else if (key in given && types.length > 0 && !types.some((type) => TYPES[type]?.(given[key]))) {
        mistakes[key] = `must be of type ${types.join(" or ")}`;
      }
    }
    if (Object.keys(mistakes).length > 0) throw new ConfigError(mistakes);
    return new this.author(config);
  }
}

// Calls

/** One call of the gateway: its signal is aborted when nobody waits any more. */
class Call {
  constructor(call, longest) {
    const said = new Date(call.getDeadline()).getTime(); // NaN when there is none
    this.deadline = Math.min(Date.now() + longest, Number.isNaN(said) ? Infinity : said);
    const controller = new AbortController();
    this.signal = controller.signal;
    this.timer = setTimeout(() => controller.abort(), Math.max(this.deadline - Date.now(), 0));
    call.on("cancelled", () => controller.abort());
    this.over = new Promise((_, reject) => {
      this.signal.addEventListener("abort", () => reject(this.error()), { once: true });
    });
    this.over.catch(() => {}); // whoever waits for it says so
    if (call.cancelled) controller.abort();
  }

  error() {
    if (Date.now() >= this.deadline) return new PluginError("deadline_exceeded", "the deadline of the request has passed", { retryable: true });
    return new PluginError("canceled", "the client left");
  }

  /** Returns what work gives, and throws when the call is over first. */
  within(work) {
    return Promise.race([work, this.over]);
  }

  request({ id, text, source, target, context, formality, glossary, instructions, client, session, segment, revision, final, lane, noCache, attempt, deltas, glossaryVersion, terms }) {
    return Object.freeze({
      id, text, source, target, context, formality, glossary, instructions, client, session, segment, revision, final,
      lane: lane.replace("LANE_", "").toLowerCase(), noCache, attempt, deltas, glossaryVersion, terms, signal: this.signal, deadline: this.deadline,
    });
  }
}

/** A part that was built, and the number of calls in it. */
class Instance {
  constructor(part, config) {
    this.role = part.role;
    this.name = config.name;
    const { seconds, nanos } = config.deadline || { seconds: 0, nanos: 0 };
    this.longest = seconds * 1000 + nanos / 1e6 || 60_000;
    this.calls = new Set();
    this.item = part.build(config.config);
  }

  /** Closes an instance that no call can enter any more, once it is empty. */
  async retire() {
    await Promise.allSettled([...this.calls]);
    try {
      await this.item.close?.();
    } catch (error) {
      log("error", "closing", { "@module": this.name, stack: error?.stack });
    }
  }

  /** Turns whatever the author's code throws into a PluginError. */
  fault(error, call, id) {
    if (error instanceof PluginError) return error;
    if (call.signal.aborted) return call.error();
    log("error", "the plugin threw an exception", { "@module": this.name, request: id, stack: String(error?.stack ?? error).slice(0, 8000) });
    return new PluginError("internal", "the plugin threw an exception; its log tells more", { cause: error?.name || "" });
  }

  /** Returns the answer to one text; pieces of it go to send. */
  async translate(text, call, send) {
    const answer = await call.within(this.item.translate(call.request(text)));
    if (typeof answer?.next !== "function") return result(answer, "translate");
    let said = "";
    try {
      for (;;) {
        const { done, value } = await call.within(answer.next());
        if (done) return result(value === undefined ? said : value, "translate");
        if (typeof value !== "string") throw new PluginError("internal", "translate yielded what is no string");
        said += value;
        if (said.length > MAX_MESSAGE) throw new PluginError("provider_failed", "the plugin says more than any answer may be long");
        if (value && text.deltas) await call.within(send(wellFormed(value)));
      }
    } finally {
      Promise.resolve(answer.return?.()).catch(() => {});
    }
  }

  async before(text, call) {
    const what = (await call.within(this.item.before(call.request(text)))) ?? {};
    const verdict = { state: what.state ?? Buffer.alloc(0) };
    if (!Buffer.isBuffer(verdict.state)) throw new PluginError("internal", "the state that before returned is no Buffer");
    if (what.result) return { result: result(what.result, "before") };
    if (what.request) {
      const { text, source, target, context, formality, glossary, instructions, noCache, glossaryVersion, terms } = what.request;
      verdict.request = { text: wellFormed(text), source, target, context, formality, glossary, instructions, noCache, glossaryVersion, terms };
    } else if (!("state" in what) && Object.keys(what).length > 0) {
      throw new PluginError("internal", "before returned neither a request, a result nor a state");
    }
    return verdict;
  }

  async after(text, given, state, call) {
    const what = await call.within(this.item.after(call.request(text), Object.freeze(given), state));
    return { result: result(typeof what === "string" ? { ...given, text: what } : what ?? given, "after") };
  }
}

function result(answer, hook) {
  if (typeof answer === "string") answer = { text: answer };
  if (typeof answer?.text !== "string") throw new PluginError("internal", `${hook} returned what is no text and has none`);
  return { ...answer, text: wellFormed(answer.text) };
}

/** Refuses half of a surrogate pair, which no UTF-8 holds. */
function wellFormed(text) {
  if (/\p{Surrogate}/u.test(text)) throw new PluginError("bad_answer", "the answer is not valid Unicode", { retryable: true });
  return text;
}

function wireError({ kind, field, detail, cause, retryable, retryAfter }) {
  const clip = (text) => Buffer.from(String(text).slice(0, MAX_DETAIL)).toString(); // whole characters
  const after = retryAfter > 0 ? { seconds: Math.floor(retryAfter / 1000), nanos: Math.round((retryAfter % 1000) * 1e6) } : undefined;
  return { kind, field: clip(field), detail: clip(detail), cause: clip(cause), retryable, retryAfter: after };
}

/** Answers the calls of plugins/wire with the classes of one program. */
class Program {
  constructor(name, classes) {
    this.name = name;
    this.parts = new Map();
    for (const part of classes.map((author) => new Part(author))) {
      if (this.parts.has(part.role)) throw new TypeError(`${this.parts.get(part.role).author.name} and ${part.author.name} have the same role; a program serves one of each`);
      this.parts.set(part.role, part);
    }
    if (this.parts.size === 0) throw new TypeError("the program serves no class");
    this.instances = new Map();
    this.server = new grpc.Server({ "grpc.max_receive_message_length": MAX_MESSAGE, "grpc.max_send_message_length": MAX_MESSAGE });

    const definition = loader.loadSync(path.join(__dirname, "dragoman_plugin.proto"), { longs: Number, enums: String, defaults: true, oneofs: true });
    const add = (service, methods) => {
      const known = definition[service];
      const used = Object.fromEntries(Object.keys(methods).map((method) => [method, { ...known[method], responseSerialize: (bytes) => bytes }]));
      this.server.addService(used, Object.fromEntries(Object.entries(methods).map(([method, answer]) => [
        method, known[method].responseStream ? this.stream(answer, known[method].responseSerialize) : this.unary(answer, known[method].responseSerialize),
      ])));
    };
    add("dragoman.plugin.v1.Plugin", {
      Describe: () => this.describe(),
      Configure: (config) => this.configure(config),
      Health: (which, call) => this.health(which, call),
      Release: (which) => this.release(which),
    });
    add("dragoman.plugin.v1.Provider", {
      Answer: (visit, call) => this.visit(visit.instance, "ROLE_PROVIDER", visit.text, call, (instance, over) => this.event(instance, 0, visit.text, over)),
      Translate: (asked, call, send) => this.translate(asked, call, send),
    });
    add("dragoman.plugin.v1.Stage", {
      Before: (visit, call) => this.visit(visit.instance, "ROLE_STAGE", visit.text, call, (instance, over) => instance.before(visit.text, over)),
      After: (done, call) => this.visit(done.instance, "ROLE_STAGE", done.text, call, (instance, over) => instance.after(done.text, done.result, done.state, over)),
    });

    // The two services that are not ours are so small that they are written here:
    // grpc.health.v1.Health/Check and plugin.GRPCController/Shutdown.
    const bytes = { requestStream: false, responseStream: false, requestSerialize: (b) => b, requestDeserialize: (b) => b, responseSerialize: (b) => b, responseDeserialize: (b) => b };
    const small = (where, answer) => this.server.addService({ Only: { ...bytes, path: where } }, { Only: this.unary(answer, (b) => b) });
    small("/grpc.health.v1.Health/Check", (asked) => {
      const service = asked.subarray(2).toString(); // a tag, a length, and the name of the service
      if (service !== "" && service !== "plugin") throw status("NOT_FOUND", "there is no such service here");
      return Buffer.from([0x08, 0x01]); // status: SERVING
    });
    small("/plugin.GRPCController/Shutdown", () => {
      setImmediate(() => this.end()); // once it is answered
      return Buffer.alloc(0);
    });
  }

  /** Refuses a call that does not carry the gateway's secret. */
  admit(call) {
    if (!host?.secret) return;
    const sum = (text) => crypto.createHash("sha256").update(text).digest(); // of one length, so that time tells nothing
    const said = call.metadata.get(SECRET[1]);
    if (said.length !== 1 || !crypto.timingSafeEqual(sum(said[0]), sum(host.secret))) {
      throw status("UNAUTHENTICATED", "this plugin answers the gateway that has started it, and nobody else");
    }
  }

  unary(answer, encode) {
    return async (call, done) => {
      try {
        this.admit(call);
        done(null, fit(await answer(call.request, call), encode));
      } catch (error) {
        done(broken(error));
      }
    };
  }

  stream(answer, encode) {
    return async (call) => {
      try {
        this.admit(call);
        await answer(call.request, call, async (event) => {
          if (!call.write(fit(event, encode)) && !call.cancelled) {
            await new Promise((ready) => {
              call.once("drain", ready);
              call.once("cancelled", ready);
            });
          }
        });
        call.end();
      } catch (error) {
        call.emit("error", broken(error));
      }
    };
  }

  describe() {
    return { name: this.name, version: require.main?.exports?.version ?? "", protocol: PROTOCOL, parts: [...this.parts.values()].map((part) => part.describe()) };
  }

  async configure(config) {
    const part = this.parts.get(config.role);
    const refusal = (mistakes) => ({ errors: Object.entries(mistakes).map(([field, detail]) => ({ field, detail: String(detail).slice(0, MAX_DETAIL) })) });
    if (!part) return refusal({ "": `${this.name} serves no such role` });
    try {
      const instance = new Instance(part, config);
      const languages = Object.entries((await instance.item.languages?.()) ?? {}).map(([source, targets]) => ({ source, targets }));
      const former = this.instances.get(config.instance);
      this.instances.set(config.instance, instance);
      await former?.retire();
      return { languages };
    } catch (error) {
      if (error instanceof ConfigError) return refusal(error.mistakes);
      if (error instanceof PluginError) return refusal({ [error.field]: error.detail });
      log("error", "taking the configuration", { "@module": config.name, stack: error?.stack });
      return refusal({ "": `${error?.name}: ${error?.message}` });
    }
  }

  async release({ id }) {
    const instance = this.instances.get(id);
    this.instances.delete(id);
    await instance?.retire();
    return {};
  }

  async health({ id }, call) {
    if (!id) return {};
    return this.enter(id, null, call, async (instance, over) => {
      try {
        await over.within(instance.item.health?.());
        return {};
      } catch (error) {
        return { error: wireError(instance.fault(error, over, "")) };
      }
    });
  }

  /** Holds an instance open while work runs. */
  async enter(id, role, call, work) {
    const instance = this.instances.get(id);
    if (!instance || (role && role !== instance.role)) throw status("NOT_FOUND", `there is no such instance here, configure it first: ${id}`);
    const over = new Call(call, instance.longest);
    const working = work(instance, over);
    instance.calls.add(working);
    try {
      return await working;
    } finally {
      instance.calls.delete(working);
      clearTimeout(over.timer);
    }
  }

  /** enter, where a failure is an answer. */
  visit(id, role, text, call, work) {
    return this.enter(id, role, call, async (instance, over) => {
      try {
        return await work(instance, over);
      } catch (error) {
        return { error: wireError(instance.fault(error, over, text.id)) };
      }
    });
  }

  async translate({ instance, texts }, call, send) {
    await this.enter(instance, "ROLE_PROVIDER", call, async (instance, over) => {
      await Promise.all(texts.map(async (text, index) => send(await this.event(instance, index, text, over, (delta) => send({ index, delta })))));
    });
  }

  /** Returns the last event of one text. */
  async event(instance, index, text, over, send = async () => {}) {
    try {
      const { limits, ...said } = await instance.translate(text, over, send);
      return { index, result: said, limits };
    } catch (thrown) {
      const error = instance.fault(thrown, over, text.id);
      return { index, error: wireError(error), limits: error.limits, spent: error.usage };
    }
  }

  /** Ends the program, after the calls in flight; more than once is as good. */
  end() {
    if (this.ending) return;
    this.ending = true;
    const last = async () => {
      const left = [...this.instances.values()];
      this.instances.clear();
      await Promise.race([Promise.all(left.map((instance) => instance.retire())), new Promise((late) => setTimeout(late, 500))]);
      process.exit(0);
    };
    const late = setTimeout(() => this.server.forceShutdown(), GRACE);
    this.server.tryShutdown(() => {
      clearTimeout(late);
      last();
    });
  }
}

function status(code, details) {
  return Object.assign(new Error(details), { code: grpc.status[code], details });
}

/** broken is an error as gRPC sends it: the failure of the call, and not of a text. */
function broken(error) {
  if (error.details) return error;
  log("error", "a call cannot be answered", { stack: error.stack });
  return { code: grpc.status.INTERNAL, details: "the plugin's answer cannot be sent" };
}

/** Returns reply as bytes, or as the error too_large when no message holds it. */
function fit(reply, encode) {
  const bytes = encode(reply);
  if (bytes.length <= MAX_MESSAGE) return bytes;
  const error = new PluginError("too_large", `the plugin's answer to it has ${bytes.length} bytes, and a message of the protocol holds ${MAX_MESSAGE}`, { field: "text" });
  return encode({ index: reply.index, error: wireError(error), limits: reply.limits, spent: reply.result?.usage });
}

module.exports = { serve, PluginError, ConfigError, KINDS, parseDuration, parseSize, log };
