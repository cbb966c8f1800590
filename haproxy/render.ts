// render: the text of haproxy.cfg for an inventory of brokers and landing Redis servers.
// Path: inventory → [render] → haproxy.cfg. Touches: nothing.

export interface HaproxyInventory {
  /** Where log lines go, in the words of HAProxy's `log`: "stdout format raw daemon". */
  readonly log: string;
  readonly connectionsMax: number;
  /** What HAProxy becomes once its ports are bound; absent where it starts without root. */
  readonly runAs?: { readonly user: string; readonly group: string };
  /** Unix socket for draining a broker and for seamless reloads. */
  readonly adminSocket?: string;
  /** Prometheus metrics; a loopback address. */
  readonly metrics?: string;
  /** What a client may take for the TLS handshake and its first packet. */
  readonly handshakeSecondsMax: number;
  readonly mqtts: {
    readonly bind: string;
    /** PEM file: certificate, chain and key. */
    readonly certificate: string;
    /** Asks MQTT clients for a certificate of this CA, and lets those without one in. */
    readonly clientCa?: string;
  };
  /** MQTT over WebSocket; each broker then needs `ws`. */
  readonly wss?: { readonly bind: string; readonly certificate: string };
  readonly brokers: readonly {
    readonly name: string;
    readonly mqtt: string;
    readonly ws?: string;
  }[];
  readonly landing: {
    readonly bind: string;
    readonly certificate: string;
    /** The CA of the gateways' certificates, and what it revoked. */
    readonly gatewayCa: string;
    readonly gatewayCrl?: string;
    readonly healthUser: string;
    readonly redis: readonly {
      readonly name: string;
      readonly address: string;
      /** Used only while no other server says that it is the master. */
      readonly backup?: boolean;
    }[];
  };
}

/** The environment variable with the password of the landing's health user. */
export const HEALTH_PASSWORD_VARIABLE = "SLUICE_LANDING_HEALTH_PASSWORD";

/** The whole haproxy.cfg. */
export function renderHaproxy(inventory: HaproxyInventory): string {
  const sections = [
    head(),
    global(inventory),
    defaults(inventory),
    ...(inventory.metrics ? [metrics(inventory.metrics)] : []),
    mqttFront(inventory),
    mqttBack(inventory),
    ...(inventory.wss ? [wsFront(inventory, inventory.wss), wsBack(inventory)] : []),
    landingFront(inventory),
    landingBack(inventory),
  ];
  return `${sections.join("\n\n")}\n`;
}

function lines(...parts: (string | false | undefined)[]): string {
  return parts.filter((part) => part !== false && part !== undefined).join("\n");
}

/** A file's path as one word of the configuration; in single quotes everything stands for itself. */
function file(path: string): string {
  return /^[\w./@+-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

function head(): string {
  return `\
# haproxy.cfg: the cluster's one address: MQTT for its clients, the landing Redis for its gateways.
# Rendered by haproxy/render.ts; change that or the inventory, not this file. HAProxy 2.6 or later.

# Without the password every landing server would be down, with nothing in sight that says why.
.if !defined(${HEALTH_PASSWORD_VARIABLE})
.alert "${HEALTH_PASSWORD_VARIABLE} is not in HAProxy's environment"
.endif`;
}

function global({ log, connectionsMax, runAs, adminSocket }: HaproxyInventory): string {
  return lines(
    "global",
    `    log ${log}`,
    `    maxconn ${connectionsMax}`,
    runAs && `    user ${runAs.user}`,
    runAs && `    group ${runAs.group}`,
    adminSocket && `    stats socket ${file(adminSocket)} mode 600 level admin expose-fd listeners`,
    "    # MQTT connections last for days: without this, each reload would leave a process for days.",
    "    hard-stop-after 1h",
    "    ssl-default-bind-options ssl-min-ver TLSv1.2",
    "    # For TLS 1.2, forward secrecy only; TLS 1.3 knows nothing else.",
    "    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
  );
}

function defaults({ handshakeSecondsMax }: HaproxyInventory): string {
  return `\
defaults
    mode tcp
    log global
    option tcplog
    option dontlognull
    timeout connect 5s
    timeout check 3s
    # Until a connection is established these two rule: the TLS handshake and the first packet have
    # to come within them, so a client that connects and says nothing does not keep its place.
    # From then on \`timeout tunnel\` takes over.
    timeout client ${handshakeSecondsMax}s
    timeout server ${handshakeSecondsMax}s
    timeout client-fin 10s
    timeout server-fin 10s
    # Peers that vanished are found by TCP itself, after 2 minutes.
    option clitcpka
    clitcpka-idle 60s
    clitcpka-intvl 15s
    clitcpka-cnt 4
    option srvtcpka
    srvtcpka-idle 60s
    srvtcpka-intvl 15s
    srvtcpka-cnt 4
    # A broker that refuses the connection hands it to the next one.
    option redispatch 1
    retries 3`;
}

function metrics(bind: string): string {
  return `\
# For Prometheus on this machine. There is no statistics page.
frontend metrics
    mode http
    bind ${bind}
    option dontlog-normal
    http-request use-service prometheus-exporter if { path /metrics }
    http-request deny`;
}

// 1.5 times the longest keepalive that MQTT knows (65,535 s) is 27.3 hours.
const MQTT_TUNNEL = "28h";

function mqttFront({ mqtts, handshakeSecondsMax }: HaproxyInventory): string {
  const verify = mqtts.clientCa ? ` ca-file ${file(mqtts.clientCa)} verify optional` : "";
  return `\
frontend mqtts
    bind ${mqtts.bind} ssl crt ${file(mqtts.certificate)}${verify}
    # What is not the beginning of a CONNECT (fixed header, protocol name) never reaches a broker.
    # mqtt_is_valid would refuse CONNECTs with a will that is larger than HAProxy's buffer.
    tcp-request inspect-delay ${handshakeSecondsMax}s
    acl mqtt_connect req.payload(0,13),hex -m reg '^10([89A-F].){0,3}[0-7].(00044D515454|00064D5149736470)'
    tcp-request content reject if !mqtt_connect
    default_backend mqtt`;
}

function mqttBack({ brokers }: HaproxyInventory): string {
  return lines(
    `\
backend mqtt
    # No stickiness: sessions are shared, and a stick-table sends clients back to a broker that drains.
    balance leastconn
    timeout tunnel ${MQTT_TUNNEL}
    # A whole CONNECT (3.1.1, clean session, client id "hc"), CONNACK, DISCONNECT: a broker that hangs
    # still accepts connections. The server's send-proxy-v2 makes this a PROXY v2 header (LOCAL) too.
    option tcp-check
    tcp-check connect send-proxy
    tcp-check send-binary 100e00044d5154540402000500026863
    tcp-check expect binary 20020000
    tcp-check send-binary e000
    # The broker learns the client's address and its certificate's name. Clients of a broker that
    # hangs are let go, so that they come back through the others.
    default-server check inter 1s fall 2 rise 2 send-proxy-v2-ssl-cn on-marked-down shutdown-sessions`,
    ...brokers.map(({ name, mqtt }) => `    server ${name} ${mqtt}`),
  );
}

function wsFront(
  { handshakeSecondsMax }: HaproxyInventory,
  wss: NonNullable<HaproxyInventory["wss"]>,
): string {
  return `\
frontend wss
    mode http
    option httplog
    bind ${wss.bind} ssl crt ${file(wss.certificate)} alpn http/1.1
    timeout http-request ${handshakeSecondsMax}s
    http-request deny unless { req.hdr(upgrade) -i websocket }
    default_backend ws`;
}

function wsBack({ brokers }: HaproxyInventory): string {
  return lines(
    `\
backend ws
    mode http
    balance leastconn
    timeout tunnel ${MQTT_TUNNEL}
    # The same processes as in backend mqtt, whose check says more than an HTTP one would.
    default-server send-proxy-v2-ssl-cn on-marked-down shutdown-sessions`,
    ...brokers.flatMap(({ name, ws }) =>
      ws ? [`    server ${name} ${ws} track mqtt/${name}`] : [],
    ),
  );
}

// Gateways use a few connections each; what a dead network left behind counts until it is noticed.
const CONNECTIONS_PER_GATEWAY_MAX = 16;

function landingFront({ landing, handshakeSecondsMax }: HaproxyInventory): string {
  const crl = landing.gatewayCrl ? ` crl-file ${file(landing.gatewayCrl)}` : "";
  return `\
# The landing: only gateways, each by its own certificate, each as itself.
frontend landing
    bind ${landing.bind} ssl crt ${file(landing.certificate)} ca-file ${file(landing.gatewayCa)}${crl} verify required
    stick-table type string len 64 size 100k expire 1h store conn_cur
    tcp-request session track-sc0 ssl_c_s_dn(cn)
    tcp-request session reject if { sc0_conn_cur gt ${CONNECTIONS_PER_GATEWAY_MAX} }
    # The first command has to be AUTH with a user, and that user the name in the certificate. This is
    # the fence; the wall is each user's ACL in Redis, for a later command may be another AUTH.
    # \`HELLO 3 AUTH\` is refused: clients have to speak RESP2.
    tcp-request inspect-delay ${handshakeSecondsMax}s
    acl auth_is_whole req.payload(0,0) -m reg -i '^\\*3\\r\\n\\$4\\r\\nAUTH\\r\\n\\$[0-9]+\\r\\n[^\\r\\n]+\\r\\n'
    acl auth_begins req.payload(0,14) -m reg -i '^\\*3\\r\\n\\$4\\r\\nAUTH\\r\\n'
    tcp-request content reject if !auth_begins
    tcp-request content set-var(sess.peer) ssl_c_s_dn(cn) if auth_is_whole
    tcp-request content set-var(sess.user) req.payload(0,0),regsub(\\r,,g),field(5,\\n) if auth_is_whole
    tcp-request content accept if { var(sess.user),strcmp(sess.peer) eq 0 }
    tcp-request content reject
    default_backend landing`;
}

function landingBack({ landing }: HaproxyInventory): string {
  return lines(
    `\
backend landing
    # Longer than any XREAD BLOCK, and than the hour between two probes of the quietest gateway.
    timeout tunnel 2h
    # Up is who says that it is the master; a server that was one lets its gateways go.
    option tcp-check
    tcp-check connect
    tcp-check send "AUTH ${landing.healthUser} \${${HEALTH_PASSWORD_VARIABLE}}\\r\\n"
    tcp-check expect string +OK
    tcp-check send ROLE\\r\\n
    tcp-check expect string master
    tcp-check send QUIT\\r\\n
    default-server check inter 1s fall 3 rise 2 on-marked-down shutdown-sessions`,
    ...landing.redis.map(
      ({ name, address, backup }) => `    server ${name} ${address}${backup ? " backup" : ""}`,
    ),
  );
}
