// runner: an Arduino Uno in simavr, at real time, with its serial port on a pseudo-terminal.
// Path: avr.ts → [runner] → the port's reader. Touches: libsimavr, one pseudo-terminal.
//
//   runner [--bootloader HEX] [--reset-on-open] [HEX]
//
//   HEX                the sketch, in Intel's hexadecimal form; without it the flash is empty
//   --bootloader HEX   begins there after a reset, as with the Uno's BOOTRST fuse
//   --reset-on-open    whoever opens the port resets the board, as the DTR line of a real one does
//
// Prints the terminal's path. SIGUSR1 is the reset button. As on a real board, what the sketch says
// while nobody has the port open is lost.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <avr_uart.h>
#include <sim_avr.h>

enum { HZ = 16000000, SLICE_MS = 1, BEHIND_MS_MAX = 100, WAITING_BYTES_MAX = 4096 };

static const long NS_PER_MS = 1000000;

/** The pseudo-terminal, and what is on its way to the board. */
static struct {
  int master;
  char path[64];
  int opens;  // an inotify descriptor: told when the path is opened
  uint8_t waiting[WAITING_BYTES_MAX];
  size_t begin, end;
  bool open;
} port;

static avr_t *board;
static avr_irq_t *board_input;
static bool board_listens;

static void die(const char *what) {
  perror(what);
  exit(1);
}

/** Takes away echo and line editing, which Linux gives back when the last reader has closed. */
static void make_raw(void) {
  struct termios settings;
  if (tcgetattr(port.master, &settings) < 0) die("tcgetattr");
  if (!(settings.c_lflag & (ICANON | ECHO))) return;
  tcflag_t control = settings.c_cflag;
  cfmakeraw(&settings);
  settings.c_cflag = control;
  if (tcsetattr(port.master, TCSANOW, &settings) < 0) die("tcsetattr");
}

static void open_port(void) {
  int first_reader;
  if (openpty(&port.master, &first_reader, port.path, NULL, NULL) < 0) die("openpty");
  // From the first close on, poll tells whether anybody has the port open.
  close(first_reader);
  fcntl(port.master, F_SETFL, O_NONBLOCK);
  port.opens = inotify_init1(IN_NONBLOCK);
  if (inotify_add_watch(port.opens, port.path, IN_OPEN) < 0) die(port.path);
}

/** The board says a byte. One that the reader has no room for is lost, as on a wire. */
static void on_output(avr_irq_t *irq, uint32_t value, void *unused) {
  uint8_t byte = value;
  if (port.open && write(port.master, &byte, 1) < 0 && errno != EAGAIN && errno != EIO) {
    die("write");
  }
}

static void on_listens(avr_irq_t *irq, uint32_t value, void *unused) { board_listens = true; }

static void on_is_full(avr_irq_t *irq, uint32_t value, void *unused) { board_listens = false; }

static void connect_uart(void) {
  uint32_t flags = 0;  // neither the copy on stdout nor simavr's own sleeping
  avr_ioctl(board, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
  uint32_t uart = AVR_IOCTL_UART_GETIRQ('0');
  board_input = avr_io_getirq(board, uart, UART_IRQ_INPUT);
  avr_irq_register_notify(avr_io_getirq(board, uart, UART_IRQ_OUTPUT), on_output, NULL);
  avr_irq_register_notify(avr_io_getirq(board, uart, UART_IRQ_OUT_XON), on_listens, NULL);
  avr_irq_register_notify(avr_io_getirq(board, uart, UART_IRQ_OUT_XOFF), on_is_full, NULL);
}

static void hand_over_input(void) {
  if (port.begin == port.end) {
    ssize_t count = read(port.master, port.waiting, sizeof port.waiting);
    port.begin = 0;
    port.end = count > 0 ? count : 0;
  }
  while (board_listens && port.begin < port.end) {
    avr_raise_irq(board_input, port.waiting[port.begin++]);
  }
}

/** A record of Intel's hexadecimal form: bytes, address, type; false when it is none. */
static bool parse_record(const char *line, uint8_t *bytes, unsigned *count, unsigned *address,
                         unsigned *type) {
  if (sscanf(line, ":%2x%4x%2x", count, address, type) != 3) return false;
  uint8_t sum = *count + (*address >> 8) + *address + *type;
  for (unsigned i = 0; i <= *count; i++) {
    if (sscanf(line + 9 + 2 * i, "%2hhx", &bytes[i]) != 1) return false;
    sum += bytes[i];
  }
  return sum == 0;
}

/** Puts the file into the flash; returns the address where it begins. */
static uint32_t load(const char *path) {
  enum { DATA = 0, END = 1 };  // the others give the entry point of processors with segments
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  uint32_t first = UINT32_MAX;
  char line[600];
  uint8_t bytes[256];
  unsigned count, address, type = DATA;
  while (type != END) {
    bool is_good = fgets(line, sizeof line, file) &&
                   parse_record(line, bytes, &count, &address, &type);
    if (!is_good || address + count > board->flashend + 1) {
      fprintf(stderr, "runner: %s is not a program for this board\n", path);
      exit(1);
    }
    if (type != DATA) continue;
    memcpy(board->flash + address, bytes, count);
    if (address < first) first = address;
  }
  fclose(file);
  return first;
}

/** simavr hurries on through its sleep; keep_pace does the waiting. */
static void on_sleep(avr_t *avr, avr_cycle_count_t cycles) {}

static void on_log(avr_t *avr, const int level, const char *format, va_list values) {
  if (level <= LOG_ERROR) vfprintf(stderr, format, values);
}

static void make_board(void) {
  avr_global_logger_set(on_log);
  board = avr_make_mcu_by_name("atmega328p");
  if (!board) die("atmega328p");
  avr_init(board);
  board->frequency = HZ;
  board->sleep = on_sleep;
  memset(board->flash, 0xff, board->flashend + 1);
  board->codeend = board->flashend;
  connect_uart();
}

/** As the reset pin does: the bootloader stays only when it sees this flag. */
static void reset_board(void) {
  avr_reset(board);
  avr_regbit_set(board, board->reset_flags.extrf);
  port.begin = port.end = 0;
  board_listens = true;
}

static void add_ms(struct timespec *time, long ms) {
  time->tv_nsec += ms * NS_PER_MS;
  time->tv_sec += time->tv_nsec / (1000 * NS_PER_MS);
  time->tv_nsec %= 1000 * NS_PER_MS;
}

static long ms_between(const struct timespec *from, const struct timespec *to) {
  return (to->tv_sec - from->tv_sec) * 1000 + (to->tv_nsec - from->tv_nsec) / NS_PER_MS;
}

/** Runs the board up to the cycle, or to a reset by itself: some versions count from zero then. */
static avr_cycle_count_t run_until(avr_cycle_count_t end) {
  avr_cycle_count_t last = board->cycle;
  while (board->cycle < end) {
    int state = avr_run(board);
    if (state == cpu_Done || state == cpu_Crashed) {
      fprintf(stderr, "runner: the sketch has ended or crashed at 0x%x\n", board->pc);
      exit(1);
    }
    if (board->cycle < last) return board->cycle;
    last = board->cycle;
  }
  return end;
}

/** Waits until the slice is over on the wall, too. */
static void keep_pace(struct timespec *due) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  // Far behind, as after the machine was busy: the board goes on from now, it does not catch up.
  if (ms_between(due, &now) > BEHIND_MS_MAX) *due = now;
  add_ms(due, SLICE_MS);
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, due, NULL);
}

/** Notices who opens and closes the port; true when it was opened since the last look. */
static bool look_at_port(void) {
  struct pollfd master = {.fd = port.master, .events = POLLIN};
  poll(&master, 1, 0);
  bool is_open = !(master.revents & POLLHUP);
  char events[4096];
  bool was_opened = read(port.opens, events, sizeof events) > 0;
  if (is_open && (was_opened || !port.open)) make_raw();
  port.open = is_open;
  return was_opened;
}

static int catch_reset_button(void) {
  sigset_t button;
  sigemptyset(&button);
  sigaddset(&button, SIGUSR1);
  sigprocmask(SIG_BLOCK, &button, NULL);
  return signalfd(-1, &button, SFD_NONBLOCK);
}

static void run(bool resets_on_open) {
  const avr_cycle_count_t slice = (avr_cycle_count_t)HZ / 1000 * SLICE_MS;
  int button = catch_reset_button();
  struct signalfd_siginfo press;
  struct timespec due;
  clock_gettime(CLOCK_MONOTONIC, &due);
  reset_board();
  for (avr_cycle_count_t reached = board->cycle;;) {
    bool was_opened = look_at_port();
    bool was_pressed = read(button, &press, sizeof press) > 0;
    if (was_pressed || (was_opened && resets_on_open)) {
      reset_board();
      reached = board->cycle;
    }
    hand_over_input();
    reached = run_until(reached + slice);
    keep_pace(&due);
  }
}

int main(int count, char **words) {
  bool resets_on_open = false;
  make_board();
  for (int i = 1; i < count; i++) {
    if (!strcmp(words[i], "--reset-on-open")) {
      resets_on_open = true;
    } else if (!strcmp(words[i], "--bootloader") && i + 1 < count) {
      board->reset_pc = load(words[++i]);
    } else {
      load(words[i]);
    }
  }
  open_port();
  printf("%s\n", port.path);
  fflush(stdout);
  run(resets_on_open);
}
