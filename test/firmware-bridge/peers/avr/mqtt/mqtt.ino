// mqtt: a counter that speaks MQTT 3.1.1 over its serial port, in the 2 KB of memory of an Uno.
// Path: avr.ts → [mqtt] → the serial port. Touches: an Arduino Uno.
//
//   connects as   uno, keeps its session; its will is "gone", retained, on uno/state
//   publishes     uno/count, QoS 1: 1, 2, 3 …, each once the one before is acknowledged
//                 uno/lamp/state, QoS 0, when the lamp was switched
//   subscribes    uno/lamp, QoS 1: on, off
//
// Silence for 3 s means that the broker is gone: it connects anew, and sends again, as a duplicate,
// what was not acknowledged.

#include <avr/sleep.h>

enum PacketType {
  CONNECT = 0x10,
  CONNACK = 0x20,
  PUBLISH = 0x30,
  PUBACK = 0x40,
  SUBSCRIBE = 0x82,  // with the flags that [MQTT-3.8.1-1] demands
  SUBACK = 0x90,
  PINGREQ = 0xc0,
};

enum { WILL_RETAINED_QOS_1 = 0x2c, QOS_1 = 0x02, QOS_MASK = 0x06, DUP = 0x08 };
enum { KEEP_ALIVE_S = 5, SILENCE_MS_MAX = 3000, PING_MS = 1000, COUNT_MS = 500 };
enum { BODY_BYTES_MAX = 96, SUBSCRIBE_ID = 0xffff };

enum Mode { CONNECTING, SUBSCRIBING, COUNTING };

static Mode mode = CONNECTING;
static unsigned long heard_ms, pinged_ms, counted_ms;
static uint16_t count;
static bool is_acknowledged = true;

// ---- sending ----

static uint8_t body[BODY_BYTES_MAX];
static uint8_t body_bytes;

static void add_number(uint16_t number) {
  body[body_bytes++] = number >> 8;
  body[body_bytes++] = number & 0xff;
}

static void add_bytes(const char *text) {
  while (*text) body[body_bytes++] = *text++;
}

static void add_text(const char *text) {
  add_number(strlen(text));
  add_bytes(text);
}

static void send(uint8_t header) {
  Serial.write(header);
  Serial.write(body_bytes);  // less than 128, so it is one byte
  Serial.write(body, body_bytes);
  body_bytes = 0;
}

static void send_connect() {
  add_text("MQTT");
  body[body_bytes++] = 4;
  body[body_bytes++] = WILL_RETAINED_QOS_1;
  add_number(KEEP_ALIVE_S);
  add_text("uno");
  add_text("uno/state");
  add_text("gone");
  send(CONNECT);
}

static void send_subscribe() {
  add_number(SUBSCRIBE_ID);
  add_text("uno/lamp");
  body[body_bytes++] = 1;
  send(SUBSCRIBE);
}

static void send_count(uint8_t duplicate) {
  add_text("uno/count");
  add_number(count);
  add_bytes(String(count).c_str());
  send(PUBLISH | QOS_1 | duplicate);
  is_acknowledged = false;
}

static void send_lamp(bool is_on) {
  add_text("uno/lamp/state");
  add_bytes(is_on ? "on" : "off");
  send(PUBLISH);
}

// ---- modes ----

static void connect() {
  mode = CONNECTING;
  heard_ms = millis();
  send_connect();
}

static void begin_to_count() {
  mode = COUNTING;
  counted_ms = millis();
  if (!is_acknowledged) send_count(DUP);
}

static void keep_up() {
  unsigned long now = millis();
  if (now - heard_ms > SILENCE_MS_MAX) connect();
  if (mode != COUNTING) return;
  if (is_acknowledged && now - counted_ms >= COUNT_MS) {
    counted_ms = now;
    count++;
    send_count(0);
  }
  if (now - pinged_ms >= PING_MS) {
    pinged_ms = now;
    send(PINGREQ);
  }
}

// ---- receiving ----

static uint8_t packet[BODY_BYTES_MAX];

static uint16_t number_at(uint8_t place) { return packet[place] << 8 | packet[place + 1]; }

static void on_publish(uint8_t header, uint8_t bytes) {
  uint8_t place = 2 + number_at(0);
  bool is_qos_1 = header & QOS_MASK;
  if (is_qos_1) {
    add_number(number_at(place));
    send(PUBACK);
    place += 2;
  }
  bool is_on = bytes - place == 2 && !memcmp(packet + place, "on", 2);
  digitalWrite(LED_BUILTIN, is_on ? HIGH : LOW);
  send_lamp(is_on);
}

static void on_packet(uint8_t header, uint8_t bytes) {
  heard_ms = millis();
  switch (header & 0xf0) {
    case CONNACK:
      if (packet[1] != 0) break;  // refused: silence follows, and another try
      mode = SUBSCRIBING;
      send_subscribe();
      break;
    case SUBACK:
      begin_to_count();
      break;
    case PUBACK:
      if (number_at(0) == count) is_acknowledged = true;
      break;
    case PUBLISH:
      on_publish(header, bytes);
      break;
  }
}

/** Puts a byte where it belongs: header, length, body. Longer packets are passed over. */
static void on_byte(uint8_t byte) {
  static uint8_t header, shift;
  static uint32_t length, place;
  static bool in_length, in_body;
  if (in_body) {
    if (place < BODY_BYTES_MAX) packet[place] = byte;
    place++;
  } else if (in_length) {
    length |= (uint32_t)(byte & 0x7f) << shift;
    shift += 7;
    in_length = byte & 0x80;
    in_body = !in_length;
  } else {
    header = byte;
    length = place = shift = 0;
    in_length = true;
  }
  if (in_body && place == length) {
    in_body = false;
    if (length <= BODY_BYTES_MAX) on_packet(header, length);
  }
}

void setup() {
  Serial.begin(115200);
  pinMode(LED_BUILTIN, OUTPUT);
  connect();
}

void loop() {
  while (Serial.available()) on_byte(Serial.read());
  keep_up();
  sleep_mode();
}
