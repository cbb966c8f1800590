// disk-shim: a disk that is slow, full, broken or cut off, in front of libc, for one folder.
// Path: LD_PRELOAD by disk-shim.ts → a process → [disk-shim] → the kernel. Touches: files under
// DISK_SHIM_FOLDER, the control file and the journal.
//
// It acts on the descriptors and streams of files under the folder alone. The control file is
// mapped, so that a running process changes with it:
//
//   slow      fsync and fdatasync take so many milliseconds more
//   full      bytes_left can still be written, the last of them by a short write; then writing,
//             growing, creating, mkdir and rename fail with ENOSPC. What is deleted gives no room
//   io        writing, growing and syncing fail with EIO
//   readonly  all that changes anything fails with EROFS
//
// For a power cut it keeps a journal of what is durable, a line each: `C inode` the file is empty,
// `S inode size` so much of it was there when a sync of it began that came out well, `T inode size`
// it was cut to so much. What stands in a file behind that is lost, or not, when the power goes.
// Creating, renaming and deleting count as durable at once and in order, as if the file system
// kept a journal of its own and each of them came before all that follows.
//
// Not modelled: an overwrite, which ends the process, since a part of a page could be lost (LevelDB
// and Redis only append); metadata that is lost or comes out of order; a sync whose error is told
// once and then forgotten, with what it should have written dropped; reads that fail; sendfile,
// copy_file_range, fallocate, links, io_uring, raw system calls. It needs glibc, for its streams.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// As disk-shim.ts writes it.
struct control {
  volatile uint32_t fault;
  volatile uint32_t slow_ms;
  volatile int64_t bytes_left;
};

enum fault { NONE, FULL, IO, READONLY };

enum { FILES_MAX = 65536, OURS = 1, APPENDS = 2, JOURNAL_FD = 900, NAP_MS = 5 };

static char folder[PATH_MAX];
static size_t folder_length;
static struct control *control;
static int journal = -1;
// What is known of each open descriptor.
static volatile unsigned char marks[FILES_MAX];

static void die(const char *what) {
  dprintf(STDERR_FILENO, "disk-shim: %s\n", what);
  abort();
}

__attribute__((constructor)) static void start(void) {
  const char *of = getenv("DISK_SHIM_FOLDER");
  const char *by = getenv("DISK_SHIM_CONTROL");
  const char *into = getenv("DISK_SHIM_JOURNAL");
  if (!of || !by || !into) return;
  int fd = syscall(SYS_openat, AT_FDCWD, by, O_RDWR | O_CLOEXEC);
  if (fd < 0) die("the control file cannot be opened");
  long page = syscall(SYS_mmap, NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == -1) die("the control file cannot be mapped");
  syscall(SYS_close, fd);
  fd = syscall(SYS_openat, AT_FDCWD, into, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd < 0) die("the journal cannot be opened");
  // Out of the way of a shell that counts its descriptors from 3.
  journal = syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, JOURNAL_FD);
  syscall(SYS_close, fd);
  if (journal < 0) die("the journal has no descriptor");
  if (!realpath(of, folder)) die("the folder is not there");
  folder_length = strlen(folder);
  control = (struct control *)page;
}

static enum fault fault(void) { return control->fault; }

static int failed(int code) {
  errno = code;
  return -1;
}

static bool is_under(const char *path) {
  if (strncmp(path, folder, folder_length) != 0) return false;
  return path[folder_length] == '/' || path[folder_length] == '\0';
}

// Does the path, as a call at `at` means it, lead into the folder?
static bool is_ours_at(int at, const char *path) {
  if (!control || !path) return false;
  if (path[0] == '/') return is_under(path);
  char whole[PATH_MAX * 2];
  ssize_t length;
  if (at == AT_FDCWD) {
    length = syscall(SYS_getcwd, whole, PATH_MAX) - 1;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    length = syscall(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX - 1);
  }
  if (length < 0) return false;
  snprintf(whole + length, sizeof whole - length, "/%s", path);
  return is_under(whole);
}

static unsigned char mark_of(int fd) { return fd >= 0 && fd < FILES_MAX ? marks[fd] : 0; }

static void set_mark(int fd, unsigned char mark) {
  if (fd >= 0 && fd < FILES_MAX) marks[fd] = mark;
  else if (mark) die("more files are open than it can tell apart");
}

static void note(char what, const struct stat *file, long long size) {
  char line[64];
  int length = snprintf(line, sizeof line, "%c %llu %lld\n", what,
                        (unsigned long long)file->st_ino, size);
  if (syscall(SYS_write, journal, line, length) != length) die("the journal cannot be written");
}

// Opening

static int open_at(int at, const char *path, int flags, mode_t mode) {
  if (!is_ours_at(at, path)) return syscall(SYS_openat, at, path, flags, mode);
  bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
  if (writes && fault() == READONLY) return failed(EROFS);
  bool is_there = syscall(SYS_faccessat, at, path, F_OK) == 0;
  if (flags & O_CREAT && !is_there && fault() == FULL) return failed(ENOSPC);
  int fd = syscall(SYS_openat, at, path, flags, mode);
  if (fd < 0) return fd;
  set_mark(fd, OURS | (flags & O_APPEND ? APPENDS : 0));
  struct stat file;
  bool is_empty = writes && fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_size == 0;
  if (is_empty) note('C', &file, 0);
  return fd;
}

static mode_t mode_in(int flags, va_list rest) {
  return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                       \
  int name(const char *path, int flags, ...) {           \
    va_list rest;                                        \
    va_start(rest, flags);                               \
    mode_t mode = mode_in(flags, rest);                  \
    va_end(rest);                                        \
    return open_at(AT_FDCWD, path, flags, mode);         \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                     \
  int name(int at, const char *path, int flags, ...) {   \
    va_list rest;                                        \
    va_start(rest, flags);                               \
    mode_t mode = mode_in(flags, rest);                  \
    va_end(rest);                                        \
    return open_at(at, path, flags, mode);               \
  }
OPENAT(openat)
OPENAT(openat64)

int creat(const char *path, mode_t mode) {
  return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }

int close(int fd) {
  set_mark(fd, 0);
  return syscall(SYS_close, fd);
}

static int copied(int from, int to) {
  if (to >= 0) set_mark(to, mark_of(from));
  return to;
}

int dup(int fd) { return copied(fd, syscall(SYS_dup, fd)); }
int dup2(int fd, int to) {
  if (fd == to) return syscall(SYS_fcntl, fd, F_GETFD) < 0 ? -1 : to;
  return copied(fd, syscall(SYS_dup3, fd, to, 0));
}
int dup3(int fd, int to, int flags) { return copied(fd, syscall(SYS_dup3, fd, to, flags)); }

static int control_file(int fd, int command, long argument) {
  int result = syscall(SYS_fcntl, fd, command, argument);
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result) : result;
}

#define FCNTL(name)                                      \
  int name(int fd, int command, ...) {                   \
    va_list rest;                                        \
    va_start(rest, command);                             \
    long argument = va_arg(rest, long);                  \
    va_end(rest);                                        \
    return control_file(fd, command, argument);          \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

// Writing

// How many of `count` bytes the full disk still takes; they are taken from what is left.
static int64_t room_for(int64_t count) {
  int64_t left = control->bytes_left;
  for (;;) {
    int64_t taken = left < count ? left : count;
    if (taken <= 0) return 0;
    if (__atomic_compare_exchange_n(&control->bytes_left, &left, left - taken, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
      return taken;
  }
}

// `offset` is negative where the descriptor's own counts.
static void assert_appends(int fd, off_t offset) {
  struct stat file;
  if (mark_of(fd) & APPENDS || fstat(fd, &file) < 0 || !S_ISREG(file.st_mode)) return;
  if (offset < 0) offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
  if (offset < file.st_size) die("a file is overwritten, which a power cut is not modelled for");
}

// How many of `count` bytes may be written; -1 with errno for none.
static ssize_t allowed(int fd, size_t count, off_t offset) {
  assert_appends(fd, offset);
  if (fault() == IO) return failed(EIO);
  if (fault() == READONLY) return failed(EROFS);
  if (fault() != FULL || count == 0) return count;
  ssize_t room = room_for(count);
  return room > 0 ? room : failed(ENOSPC);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  if (!mark_of(fd)) return syscall(SYS_write, fd, bytes, count);
  ssize_t most = allowed(fd, count, -1);
  return most < 0 ? most : syscall(SYS_write, fd, bytes, most);
}

#define PWRITE(name)                                                          \
  ssize_t name(int fd, const void *bytes, size_t count, off_t offset) {       \
    if (!mark_of(fd)) return syscall(SYS_pwrite64, fd, bytes, count, offset); \
    ssize_t most = allowed(fd, count, offset);                                \
    return most < 0 ? most : syscall(SYS_pwrite64, fd, bytes, most, offset);  \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

// The parts that fit whole, or as much of the first one as fits.
static ssize_t write_parts(int fd, const struct iovec *parts, int count, off_t offset) {
  size_t total = 0;
  for (int index = 0; index < count; index++) total += parts[index].iov_len;
  ssize_t most = allowed(fd, total, offset);
  if (most < 0) return most;
  struct iovec first = {parts[0].iov_base, most};
  if ((size_t)most < total) {
    if (first.iov_len > parts[0].iov_len) first.iov_len = parts[0].iov_len;
    parts = &first;
    count = 1;
  }
  if (offset < 0) return syscall(SYS_writev, fd, parts, count);
  return syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!mark_of(fd) || count <= 0) return syscall(SYS_writev, fd, parts, count);
  return write_parts(fd, parts, count, -1);
}

#define PWRITEV(name)                                                              \
  ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) {       \
    if (!mark_of(fd) || count <= 0)                                                \
      return syscall(SYS_pwritev, fd, parts, count, offset, 0);                    \
    return write_parts(fd, parts, count, offset);                                  \
  }
PWRITEV(pwritev)
PWRITEV(pwritev64)

static int resize(const struct stat *file, off_t length) {
  bool grows = length > file->st_size;
  if (fault() == READONLY) return failed(EROFS);
  if (fault() == IO) return failed(EIO);
  return grows && fault() == FULL ? failed(ENOSPC) : 0;
}

#define FTRUNCATE(name)                                                             \
  int name(int fd, off_t length) {                                                  \
    struct stat file;                                                               \
    if (!mark_of(fd) || fstat(fd, &file) < 0) return syscall(SYS_ftruncate, fd, length); \
    if (resize(&file, length) < 0) return -1;                                       \
    int result = syscall(SYS_ftruncate, fd, length);                                \
    if (result == 0 && length < file.st_size) note('T', &file, length);             \
    return result;                                                                  \
  }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

#define TRUNCATE(name)                                                              \
  int name(const char *path, off_t length) {                                        \
    struct stat file;                                                               \
    if (!is_ours_at(AT_FDCWD, path) || stat(path, &file) < 0)                       \
      return syscall(SYS_truncate, path, length);                                   \
    if (resize(&file, length) < 0) return -1;                                       \
    int result = syscall(SYS_truncate, path, length);                               \
    if (result == 0 && length < file.st_size) note('T', &file, length);             \
    return result;                                                                  \
  }
TRUNCATE(truncate)
TRUNCATE(truncate64)

#define MMAP(name)                                                                  \
  void *name(void *at, size_t length, int may, int flags, int fd, off_t offset) {   \
    if (may & PROT_WRITE && flags & MAP_SHARED && mark_of(fd))                      \
      die("a file is mapped to be written, which a power cut is not modelled for"); \
    return (void *)syscall(SYS_mmap, at, length, may, flags, fd, offset);           \
  }
MMAP(mmap)
MMAP(mmap64)

// Syncing

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// In naps, so that a disk that is made quick again is quick at once.
static void be_slow(void) {
  long end = now_ms() + control->slow_ms;
  for (long left = control->slow_ms; left > 0 && control->slow_ms > 0; left = end - now_ms()) {
    struct timespec nap = {0, (left < NAP_MS ? left : NAP_MS) * 1000000};
    nanosleep(&nap, NULL);
  }
}

static int synced(int fd, long call) {
  if (!mark_of(fd)) return syscall(call, fd);
  be_slow();
  if (fault() == IO) return failed(EIO);
  if (fault() == READONLY) return failed(EROFS);
  struct stat file;
  bool is_file = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
  int result = syscall(call, fd);
  if (result == 0 && is_file) note('S', &file, file.st_size);
  return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

// Names

static int name_fault(int at, const char *path, bool takes_room) {
  if (!is_ours_at(at, path)) return 0;
  if (fault() == READONLY) return failed(EROFS);
  return takes_room && fault() == FULL ? failed(ENOSPC) : 0;
}

static int rename_at(int at, const char *from, int to_at, const char *to, unsigned flags) {
  if (name_fault(at, from, false) < 0 || name_fault(to_at, to, true) < 0) return -1;
  return syscall(SYS_renameat2, at, from, to_at, to, flags);
}

int rename(const char *from, const char *to) {
  return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int at, const char *from, int to_at, const char *to) {
  return rename_at(at, from, to_at, to, 0);
}
int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags) {
  return rename_at(at, from, to_at, to, flags);
}

int mkdirat(int at, const char *path, mode_t mode) {
  return name_fault(at, path, true) < 0 ? -1 : syscall(SYS_mkdirat, at, path, mode);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int unlinkat(int at, const char *path, int flags) {
  return name_fault(at, path, false) < 0 ? -1 : syscall(SYS_unlinkat, at, path, flags);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

// Streams: libc writes those past the calls above, so ours are made of them.

static ssize_t stream_read(void *cookie, char *bytes, size_t count) {
  return read((int)(intptr_t)cookie, bytes, count);
}

// A stream takes 0 for a failure [fopencookie(3)].
static ssize_t stream_write(void *cookie, const char *bytes, size_t count) {
  ssize_t written = write((int)(intptr_t)cookie, bytes, count);
  return written < 0 ? 0 : written;
}

static int stream_seek(void *cookie, off64_t *offset, int whence) {
  off64_t at = lseek64((int)(intptr_t)cookie, *offset, whence);
  if (at < 0) return -1;
  *offset = at;
  return 0;
}

static int stream_close(void *cookie) { return close((int)(intptr_t)cookie); }

static int flags_of(const char *mode) {
  int access = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  int create = mode[0] == 'w' ? O_CREAT | O_TRUNC : mode[0] == 'a' ? O_CREAT | O_APPEND : 0;
  int more = (strchr(mode, 'e') ? O_CLOEXEC : 0) | (strchr(mode, 'x') ? O_EXCL : 0);
  return access | create | more;
}

static FILE *open_stream(const char *path, const char *mode) {
  int fd = open_at(AT_FDCWD, path, flags_of(mode), 0666);
  if (fd < 0) return NULL;
  cookie_io_functions_t calls = {stream_read, stream_write, stream_seek, stream_close};
  FILE *stream = fopencookie((void *)(intptr_t)fd, mode, calls);
  if (!stream) close(fd);
  // For fileno(3), by which such a stream is synced.
  else stream->_fileno = fd;
  return stream;
}

#define FOPEN(name)                                                                        \
  FILE *name(const char *path, const char *mode) {                                         \
    static FILE *(*real)(const char *, const char *);                                      \
    if (flags_of(mode) != O_RDONLY && is_ours_at(AT_FDCWD, path))                          \
      return open_stream(path, mode);                                                      \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, #name);                                  \
    return real(path, mode);                                                               \
  }
FOPEN(fopen)
FOPEN(fopen64)
