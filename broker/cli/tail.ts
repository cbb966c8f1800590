// tail: sluice tail: the messages that a broker hands on, as they come.
// Path: main → [tail] → a broker's listener. Touches: the settings, MQTT, stdout, stderr.

import type { IClientOptions, IPublishPacket, MqttClient } from "mqtt";
import { reasonOf, SluiceError } from "#contract/errors";
import { assertTopicFilter } from "#contract/topics";
import { parseAddress } from "#runtime/address";
import { readSecret, readTlsFiles } from "#runtime/files";
import { readSettings, SETTINGS_PATH } from "#runtime/settings";
import { type Command, readArguments, readWhole } from "./command.ts";
import { formatJson, formatMessage } from "./format-message.ts";
import { reachable, readAddress } from "./reach.ts";

const OPTIONS = {
  address: { type: "string" },
  ca: { type: "string" },
  cert: { type: "string" },
  config: { type: "string" },
  count: { type: "string" },
  json: { type: "boolean" },
  key: { type: "string" },
  "password-file": { type: "string" },
  qos: { type: "string" },
  tls: { type: "boolean" },
  username: { type: "string" },
} as const;

type Values = ReturnType<typeof readArguments<typeof OPTIONS>>["values"];

const CONNECT_MS_MAX = 10_000;
const RECONNECT_MS = 1_000;
const SUBSCRIBE_REFUSED = 128;

export const tail: Command = {
  summary: "the messages that the broker hands on, as they come",
  usage: `usage: sluice tail [FILTER…] [--json] [--count N] [--qos 0|1] [--address HOST:PORT|unix:/path]

Subscribes and prints a line for each message: time, topic, payload. Payloads that are no text
are shown in hex, long ones are cut; --json has them whole. Without a FILTER: #.

  --json                an object a line: at, topic, qos, retain, payload or payload_base64
  --count N             end after N messages
  --qos 0|1             default 0
  --username NAME       and its password in
  --password-file FILE  whose first line is the password
  --address ADDRESS     where to connect; default: the first listener of the settings without proxy
  --tls                 over TLS, also with
  --ca FILE             the authority that the broker's certificate must be from
  --cert FILE --key FILE  a certificate of one's own
  --config FILE         the settings; default ${SETTINGS_PATH}`,
  async run(args) {
    const { values, positionals } = readArguments(args, OPTIONS);
    const filters = positionals.length > 0 ? positionals : ["#"];
    for (const filter of filters) assertFilter(filter);
    const qos = readWhole("qos", values.qos ?? "0", 0, 1) as 0 | 1;
    const countMax = values.count ? readWhole("count", values.count, 1, 1e15) : Infinity;
    const format = values.json ? formatJson : formatMessage;
    const target = targetOf(values);
    // Loaded only here: no other command should wait for it.
    const { connect } = await import("mqtt");
    const follower = new Follower({ filters, qos, countMax, format, target });
    return follower.follow(connect(target.options));
  },
};

function assertFilter(filter: string): void {
  try {
    assertTopicFilter(filter);
  } catch (fault) {
    throw new SluiceError("USAGE", reasonOf(fault), { cause: fault });
  }
}

interface Target {
  /** As messages name it. */
  readonly address: string;
  readonly options: IClientOptions;
}

function targetOf(values: Values): Target {
  const { protocol, address } = values.address
    ? { protocol: "mqtt", address: readAddress("address", values.address) }
    : listenerOf(values.config ?? SETTINGS_PATH);
  const where = reachable(parseAddress(address));
  const files = { ca_file: values.ca, cert_file: values.cert, key_file: values.key };
  const isTls = values.tls || Object.values(files).some((file) => file !== undefined);
  const options: IClientOptions = {
    protocol: (isTls ? { mqtt: "mqtts", ws: "wss" }[protocol] : undefined) ?? protocol,
    ...("path" in where ? { path: where.path, unixSocket: true } : where),
    ...readTlsFiles(files),
    protocolVersion: 4,
    clean: true,
    clientId: `sluice-tail-${process.pid}-${Date.now().toString(36)}`,
    connectTimeout: CONNECT_MS_MAX,
    reconnectPeriod: RECONNECT_MS,
    // Done at each connect, so that a refusal is seen each time.
    resubscribe: false,
    ...(values.username === undefined ? {} : { username: values.username }),
    ...(values["password-file"] ? { password: readSecret(values["password-file"]) } : {}),
  } as IClientOptions;
  return { address, options };
}

function listenerOf(config: string): { protocol: string; address: string } {
  const listener = readSettings(config).listeners.find((it) => !it.proxy);
  if (listener) return listener;
  const message = `${config} has no listener without proxy = true; name one with --address`;
  throw new SluiceError("USAGE", message);
}

interface FollowerOptions {
  readonly filters: readonly string[];
  readonly qos: 0 | 1;
  readonly countMax: number;
  readonly format: (packet: IPublishPacket, nowMs: number) => string;
  readonly target: Target;
}

/**
 * trying → connected → trying → connected; a first try that fails, a refusal, a signal and the
 * last message end it. Says on stderr when the connection is lost and when it is back.
 */
class Follower {
  readonly #options: FollowerOptions;
  #isConnected = false;
  #wasConnected = false;
  #lastWhy = "the broker closed the connection";
  #count = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Gives the exit code; @throws SluiceError BROKER_UNREACHABLE or ACCESS_DENIED. */
  async follow(client: MqttClient): Promise<number> {
    try {
      await new Promise<void>((resolve, reject) => {
        process.once("SIGINT", resolve).once("SIGTERM", resolve);
        // mqtt.js keeps some failures to itself, among them that a socket's path is not there.
        client.stream.once("error", (fault: Error) => this.#failed(fault, reject));
        client.on("connect", () => this.#connected(client, reject));
        client.on("error", (fault) => this.#failed(fault, reject));
        client.on("close", () => this.#closed(reject));
        client.on("message", (_topic, _payload, packet) => {
          if (this.#count < this.#options.countMax) this.#show(packet, resolve);
        });
      });
    } finally {
      this.#isConnected = false;
      client.end(true);
    }
    return 0;
  }

  #connected(client: MqttClient, reject: (fault: Error) => void): void {
    if (this.#wasConnected) this.#say("connected again");
    this.#isConnected = true;
    this.#wasConnected = true;
    const { filters, qos } = this.#options;
    client.subscribe([...filters], { qos }, (fault, _granted, answer) => {
      const codes = answer?.cmd === "suback" ? answer.granted : [];
      const refused = filters.filter((_, index) => codes[index] === SUBSCRIBE_REFUSED);
      if (refused.length > 0) {
        const message = `the broker refuses to subscribe to ${refused.join(", ")}`;
        reject(new SluiceError("ACCESS_DENIED", message));
      } else if (fault && client.connected) {
        reject(new SluiceError("ACCESS_DENIED", `the broker refuses: ${reasonOf(fault)}`));
      }
    });
  }

  #failed(fault: Error & { code?: number | string }, reject: (fault: Error) => void): void {
    this.#lastWhy = reasonOf(fault);
    const isRefusal = typeof fault.code === "number" && fault.code > 0;
    if (!isRefusal) return;
    const hint = "; --username and --password-file say who you are";
    const message = `${this.#options.target.address} refuses the login: ${this.#lastWhy}${hint}`;
    reject(new SluiceError("ACCESS_DENIED", message, { cause: fault }));
  }

  #closed(reject: (fault: Error) => void): void {
    if (!this.#wasConnected) {
      const { address } = this.#options.target;
      const hint = "is the service running? systemctl status sluice-broker";
      const message = `no connection to ${address}: ${this.#lastWhy}; ${hint}`;
      reject(new SluiceError("BROKER_UNREACHABLE", message));
    } else if (this.#isConnected) {
      this.#say("connection lost, trying again");
    }
    this.#isConnected = false;
  }

  #show(packet: IPublishPacket, done: () => void): void {
    process.stdout.write(`${this.#options.format(packet, Date.now())}\n`);
    this.#count += 1;
    if (this.#count === this.#options.countMax) done();
  }

  #say(what: string): void {
    process.stderr.write(`sluice: ${this.#options.target.address}: ${what}\n`);
  }
}
