// slaves: libmodbus' slaves 1 and 2, two meters, on one RTU line and by TCP; nobody is number 9.
// Path: modbus.ts → [slaves] → a master. Touches: libmodbus, a pseudo-terminal, a TCP port.
//
//   says      rtu PATH tcp PORT                    once, where it can be reached
//             asked ID FUNCTION ADDRESS COUNT      before each answer
//             wrote ID TABLE ADDRESS VALUE…        when a master has written
//             done                                 after each command
//   is told   set ID TABLE ADDRESS VALUE…          coil, discrete, holding, input
//             fault ID none                        answers as it should
//                      silent | garbled            not at all; with a broken check sum (RTU)
//                      late                        after LATE_MS
//                      busy                        with exception 6
//
// The answers are libmodbus'. Ours is only the wire: a request ends where the line is silent, and
// it is heard by the slave whose number it begins with. modbus.ts has the registers' contents.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <modbus.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

enum { SLAVES = 2, BITS = 16, REGISTERS = 128, READ_ONLY = 100, CONNECTIONS_MAX = 8 };
enum { SILENCE_MS = 4, BYTE_US_MAX = 20000, LATE_MS = 400 };

typedef enum { NONE, SILENT, GARBLED, LATE, BUSY, FAULTS } Fault;

static const char *const FAULT_NAMES[FAULTS] = {"none", "silent", "garbled", "late", "busy"};

static struct {
  modbus_mapping_t *map;
  Fault fault;
} slaves[SLAVES];

/** libmodbus' RTU side reads and writes `inside`; the line, `terminal`, is tied to `outside`. */
static struct {
  modbus_t *context;
  int terminal, inside, outside;
  char path[64];
} rtu;

static struct {
  modbus_t *context;
  int listener;
  struct pollfd connections[CONNECTIONS_MAX];
} tcp;

static void die(const char *what) {
  fprintf(stderr, "slaves: %s: %s\n", what, modbus_strerror(errno));
  exit(1);
}

// ---- registers ----

/** `count` registers at `address`, the most significant word first. */
static void put_words(uint16_t *registers, int address, uint64_t bits, int count) {
  for (int i = 0; i < count; i++) registers[address + i] = bits >> 16 * (count - 1 - i);
}

/** In the four orders in which meters send them. libmodbus 3.1.6 swaps bytes in its own helpers. */
static void put_float_in_all_orders(uint16_t *registers, int address, float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t swapped = __builtin_bswap32(bits);
  put_words(registers, address, bits, 2);                                // ABCD
  put_words(registers, address + 2, bits << 16 | bits >> 16, 2);         // CDAB
  put_words(registers, address + 4, swapped << 16 | swapped >> 16, 2);   // BADC
  put_words(registers, address + 6, swapped, 2);                         // DCBA
}

static void fill(modbus_mapping_t *map, int id) {
  const float frequency = 49.75;
  const double voltage = 230.25;
  uint16_t *holding = map->tab_registers;
  uint32_t frequency_bits;
  uint64_t bits;
  memcpy(&frequency_bits, &frequency, sizeof frequency_bits);
  memcpy(&bits, &voltage, sizeof bits);
  holding[0] = id == 1 ? 1234 : 4321;
  holding[1] = (uint16_t)-5;
  put_float_in_all_orders(holding, 2, id == 1 ? 21.5 : 42.25);
  put_words(holding, 10, (uint32_t)-123456, 2);
  holding[12] = 4000000000 & 0xffff;
  holding[13] = 4000000000 >> 16;
  put_words(holding, 14, bits, 4);
  holding[18] = 0x8001;
  holding[19] = 2305;
  put_words(holding, 20, 0x4d45544552203031, 4);
  put_words(holding, 24, 9000000000, 4);
  holding[READ_ONLY] = 7;
  map->tab_input_registers[0] = 2305;
  put_words(map->tab_input_registers, 1, frequency_bits, 2);
  for (int i = 0; i < BITS; i += 2) {
    map->tab_bits[i] = 1;
    map->tab_input_bits[i + 1] = 1;
  }
}

static bool is_here(int id) { return id >= 1 && id <= SLAVES; }

static void set(modbus_mapping_t *map, const char *table, int address, int value) {
  bool is_bit = !strcmp(table, "coil") || !strcmp(table, "discrete");
  if (address < 0 || address >= (is_bit ? BITS : REGISTERS)) return;
  if (!strcmp(table, "coil")) map->tab_bits[address] = value != 0;
  if (!strcmp(table, "discrete")) map->tab_input_bits[address] = value != 0;
  if (!strcmp(table, "holding")) map->tab_registers[address] = value;
  if (!strcmp(table, "input")) map->tab_input_registers[address] = value;
}

// ---- requests ----

/** What a request asks for, from behind its header: function, address, count. */
typedef struct {
  int id, function, address, count;
} Request;

static int word_at(const uint8_t *bytes) { return bytes[0] << 8 | bytes[1]; }

static Request parse(const uint8_t *bytes, int header) {
  const uint8_t *body = bytes + header;
  Request request = {bytes[header - 1], body[0], word_at(body + 1), word_at(body + 3)};
  if (request.function == 5 || request.function == 6 || request.function == 22) request.count = 1;
  if (request.function == 23) {
    request.address = word_at(body + 5);
    request.count = word_at(body + 7);
  }
  return request;
}

static bool writes_bits(int function) { return function == 5 || function == 15; }

static bool writes_registers(int function) {
  return function == 6 || function == 16 || function == 22 || function == 23;
}

static void tell_written(const Request *request) {
  modbus_mapping_t *map = slaves[request->id - 1].map;
  bool is_bit = writes_bits(request->function);
  if (!is_bit && !writes_registers(request->function)) return;
  if (request->address + request->count > (is_bit ? BITS : REGISTERS)) return;
  printf("wrote %d %s %d", request->id, is_bit ? "coil" : "holding", request->address);
  for (int i = request->address; i < request->address + request->count; i++) {
    printf(" %d", is_bit ? map->tab_bits[i] : map->tab_registers[i]);
  }
  printf("\n");
}

/** The answer of libmodbus; its own check of addresses gives exception 2 beyond the tables. */
static void answer(modbus_t *context, const uint8_t *bytes, int length) {
  Request request = parse(bytes, modbus_get_header_length(context));
  printf("asked %d %d %d %d\n", request.id, request.function, request.address, request.count);
  if (!is_here(request.id)) {
    modbus_reply_exception(context, bytes, MODBUS_EXCEPTION_GATEWAY_TARGET);
    return;
  }
  Fault fault = slaves[request.id - 1].fault;
  bool is_refused = writes_registers(request.function) && request.address <= READ_ONLY &&
                    request.address + request.count > READ_ONLY;
  if (fault == SILENT) return;
  if (fault == LATE) usleep(LATE_MS * 1000);
  if (fault == BUSY) {
    modbus_reply_exception(context, bytes, MODBUS_EXCEPTION_SLAVE_OR_SERVER_BUSY);
  } else if (is_refused) {
    modbus_reply_exception(context, bytes, MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS);
  } else if (modbus_reply(context, bytes, length, slaves[request.id - 1].map) > 0) {
    tell_written(&request);
  }
}

// ---- RTU ----

static void open_rtu(void) {
  struct termios settings;
  int pair[2], line;
  cfmakeraw(memset(&settings, 0, sizeof settings));
  if (openpty(&rtu.terminal, &line, rtu.path, &settings, NULL) < 0) die("openpty");
  // `line` stays open, so that the terminal stays raw whoever opens and closes it.
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0) die("socketpair");
  rtu.inside = pair[0];
  rtu.outside = pair[1];
  fcntl(rtu.outside, F_SETFL, O_NONBLOCK);
  rtu.context = modbus_new_rtu(rtu.path, 9600, 'N', 8, 1);
  if (!rtu.context) die("modbus_new_rtu");
  modbus_set_socket(rtu.context, rtu.inside);
  modbus_set_indication_timeout(rtu.context, 0, BYTE_US_MAX);
  modbus_set_byte_timeout(rtu.context, 0, BYTE_US_MAX);
}

/** All that comes until the line is silent: one request. */
static size_t read_request(uint8_t *bytes, size_t size) {
  struct pollfd line = {.fd = rtu.terminal, .events = POLLIN};
  size_t length = 0;
  do {
    ssize_t count = read(rtu.terminal, bytes + length, size - length);
    if (count <= 0) break;
    length += count;
  } while (length < size && poll(&line, 1, SILENCE_MS) > 0);
  return length;
}

static void forward_answer(int id) {
  uint8_t bytes[MODBUS_RTU_MAX_ADU_LENGTH];
  ssize_t length = read(rtu.outside, bytes, sizeof bytes);
  if (length <= 0) return;
  if (slaves[id - 1].fault == GARBLED) bytes[length - 1] ^= 0xff;
  if (write(rtu.terminal, bytes, length) < 0) die("write");
}

static void serve_rtu(void) {
  uint8_t bytes[2 * MODBUS_RTU_MAX_ADU_LENGTH], request[MODBUS_RTU_MAX_ADU_LENGTH];
  size_t length = read_request(bytes, sizeof bytes);
  if (length == 0 || !is_here(bytes[0])) return;
  modbus_set_slave(rtu.context, bytes[0]);
  if (write(rtu.outside, bytes, length) < 0) die("write");
  int received = modbus_receive(rtu.context, request);
  if (received > 0) answer(rtu.context, request, received);
  forward_answer(bytes[0]);
  // What is left of a request that was none is not the beginning of the next.
  while (recv(rtu.inside, bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
}

// ---- TCP ----

static int open_tcp(void) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  tcp.context = modbus_new_tcp("127.0.0.1", 0);
  if (!tcp.context) die("modbus_new_tcp");
  tcp.listener = modbus_tcp_listen(tcp.context, CONNECTIONS_MAX);
  if (tcp.listener < 0) die("modbus_tcp_listen");
  if (getsockname(tcp.listener, (struct sockaddr *)&address, &size) < 0) die("getsockname");
  for (int i = 0; i < CONNECTIONS_MAX; i++) tcp.connections[i].fd = -1;
  return ntohs(address.sin_port);
}

static void accept_connection(void) {
  int connection = accept(tcp.listener, NULL, NULL);
  for (int i = 0; i < CONNECTIONS_MAX; i++) {
    if (tcp.connections[i].fd >= 0) continue;
    tcp.connections[i] = (struct pollfd){.fd = connection, .events = POLLIN};
    return;
  }
  close(connection);
}

static void serve_connection(struct pollfd *connection) {
  uint8_t request[MODBUS_TCP_MAX_ADU_LENGTH];
  modbus_set_socket(tcp.context, connection->fd);
  int received = modbus_receive(tcp.context, request);
  if (received > 0) answer(tcp.context, request, received);
  if (received >= 0) return;
  close(connection->fd);
  connection->fd = -1;
}

// ---- commands ----

static void set_fault(int id, const char *name) {
  for (int fault = 0; fault < FAULTS; fault++) {
    if (!strcmp(name, FAULT_NAMES[fault])) slaves[id - 1].fault = fault;
  }
}

static void obey(char *line) {
  char verb[16] = "", name[16] = "";
  int id = 0, address = 0, read_bytes = 0;
  if (sscanf(line, "%15s %d %15s%n", verb, &id, name, &read_bytes) < 3 || !is_here(id)) return;
  if (!strcmp(verb, "fault")) set_fault(id, name);
  if (strcmp(verb, "set")) return;
  char *rest = line + read_bytes;
  address = strtol(rest, &rest, 10);
  for (char *end; strtol(rest, &end, 10), end != rest; rest = end) {
    set(slaves[id - 1].map, name, address++, strtol(rest, NULL, 10));
  }
}

static void read_commands(void) {
  char text[4096];
  ssize_t length = read(STDIN_FILENO, text, sizeof text - 1);
  if (length <= 0) exit(0);
  text[length] = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    obey(line);
    printf("done\n");
  }
}

static void serve(void) {
  struct pollfd all[3 + CONNECTIONS_MAX] = {
      {.fd = rtu.terminal, .events = POLLIN},
      {.fd = tcp.listener, .events = POLLIN},
      {.fd = STDIN_FILENO, .events = POLLIN},
  };
  memcpy(all + 3, tcp.connections, sizeof tcp.connections);
  if (poll(all, 3 + CONNECTIONS_MAX, -1) < 0) die("poll");
  if (all[0].revents) serve_rtu();
  if (all[1].revents) accept_connection();
  if (all[2].revents) read_commands();
  for (int i = 0; i < CONNECTIONS_MAX; i++) {
    if (all[3 + i].revents) serve_connection(&tcp.connections[i]);
  }
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (int i = 0; i < SLAVES; i++) {
    slaves[i].map = modbus_mapping_new(BITS, BITS, REGISTERS, REGISTERS);
    if (!slaves[i].map) die("modbus_mapping_new");
    fill(slaves[i].map, i + 1);
  }
  open_rtu();
  int port = open_tcp();
  printf("rtu %s tcp %d\n", rtu.path, port);
  for (;;) serve();
}
