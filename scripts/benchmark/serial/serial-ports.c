// serial-ports: pseudo-terminals that speak numbered lines at an even pace, as devices do.
// Path: serial-ports.ts → [serial-ports]. Touches: pseudo-terminals, stdin, stdout.
//
//   serial-ports COUNT BYTES
//
// Prints the name of each port, a line each. Then takes orders on stdin, a line each:
//   LINES PER_SECOND    so many lines on each port at that pace; answers "done HELD"
// A line is "<number> <CLOCK_REALTIME in ns> xxx…", BYTES long with its line feed; numbers are those
// of all ports together: 0 to LINES-1 on the first one, LINES to 2*LINES-1 on the second. HELD counts
// the lines that had to wait for the port's reader, which a real UART would have lost.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define BYTES_MAX 4096
#define TICK_NS 2000000L

struct port {
    int master;
    int slave; // held open: the terminal outlives its readers
};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct port open_port(void) {
    struct port port;
    struct termios raw;
    port.master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (port.master < 0 || grantpt(port.master) < 0 || unlockpt(port.master) < 0) fail("openpt");
    const char *name = ptsname(port.master);
    port.slave = open(name, O_RDWR | O_NOCTTY);
    if (port.slave < 0 || tcgetattr(port.slave, &raw) < 0) fail(name);
    cfmakeraw(&raw);
    if (tcsetattr(port.slave, TCSANOW, &raw) < 0) fail(name);
    printf("%s\n", name);
    return port;
}

static long long now_ns(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void sleep_ns(long ns) {
    struct timespec time = {.tv_sec = ns / 1000000000L, .tv_nsec = ns % 1000000000L};
    nanosleep(&time, NULL);
}

/** Writes the line whole; 1 when it had to wait. */
static int say(const struct port *port, const char *line, size_t bytes) {
    int waited = 0;
    size_t done = 0;
    while (done < bytes) {
        ssize_t wrote = write(port->master, line + done, bytes - done);
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (errno == EAGAIN) {
            waited = 1;
            sleep_ns(TICK_NS / 4);
        } else {
            fail("write");
        }
    }
    return waited;
}

static int say_line(const struct port *port, long number, size_t bytes) {
    char line[BYTES_MAX];
    memset(line, 'x', bytes);
    int head = snprintf(line, sizeof line, "%08ld %020lld", number, now_ns(CLOCK_REALTIME));
    line[head] = ' ';
    line[bytes - 1] = '\n';
    return say(port, line, bytes);
}

/** Each port in its own phase, for them not to speak all at once. */
static long due(long long elapsed_ns, long per_second, long phase_ns) {
    return (long)((elapsed_ns - phase_ns) * per_second / 1000000000LL) + 1;
}

static long speak(const struct port *ports, long count, size_t bytes, long lines, long per_second) {
    long *said = calloc((size_t)count, sizeof *said);
    long held = 0, left = count;
    const long interval_ns = 1000000000L / per_second;
    const long long start_ns = now_ns(CLOCK_MONOTONIC);
    while (left > 0) {
        const long long elapsed_ns = now_ns(CLOCK_MONOTONIC) - start_ns;
        for (long at = 0; at < count; at++) {
            const long phase_ns = interval_ns / count * at;
            if (elapsed_ns < phase_ns) continue;
            while (said[at] < lines && said[at] < due(elapsed_ns, per_second, phase_ns)) {
                held += say_line(&ports[at], at * lines + said[at], bytes);
                if (++said[at] == lines) left--;
            }
        }
        sleep_ns(TICK_NS);
    }
    free(said);
    return held;
}

int main(int argc, char **argv) {
    const long count = argc == 3 ? atol(argv[1]) : 0;
    const long bytes = argc == 3 ? atol(argv[2]) : 0;
    if (count < 1 || bytes < 32 || bytes > BYTES_MAX) {
        fprintf(stderr, "usage: serial-ports COUNT BYTES (32 to %d)\n", BYTES_MAX);
        return 2;
    }
    struct port *ports = calloc((size_t)count, sizeof *ports);
    for (long at = 0; at < count; at++) ports[at] = open_port();
    fflush(stdout);
    long lines, per_second;
    while (scanf("%ld %ld", &lines, &per_second) == 2) {
        printf("done %ld\n", speak(ports, count, (size_t)bytes, lines, per_second));
        fflush(stdout);
    }
    return 0;
}
