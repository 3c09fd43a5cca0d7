/*
 * faultfs: a disk that forgets and fails, preloaded under one server.
 *
 * It watches the files of one SQLite store (the database, its -wal and its -journal) and
 * keeps, beside them, what a power cut would take back: before each write and truncation
 * it notes the old and the new bytes in an undo log, and a successful fsync or fdatasync
 * empties that log. A file that was made and whose directory was not synced has a note
 * that says so. powercut.py takes back what the notes hold after the process was killed.
 *
 * On demand (a small mapped file) a sync answers an error. As on Linux, what such a sync
 * should have written is lost for good: no later sync brings it to the disk. The log
 * keeps it, marked, instead of being emptied.
 *
 * Not watched: -shm, which is memory and built anew after a cut; unlink, which counts as
 * done at once.
 *
 * Environment: FAULTFS_STORE is the database's path, FAULTFS_SIDE the notes' directory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DB, WAL, JOURNAL, FILES, DIRECTORY = FILES };
enum { WRITE = 1, TRUNCATE = 2, SYNCED = 3, SYNC_FAILED = 4 };

#define MAGIC 0x736a6653u
#define FDS 65536

struct control {
  int32_t sync_error;   /* errno that syncs answer; 0: none */
  uint32_t sync_files;  /* which files: bit 0 the database, 1 the WAL, 2 the journal */
  int64_t faults;       /* how many calls were answered so */
  int64_t syncs;        /* how many syncs of the store succeeded */
  int64_t writes;       /* how many writes to the store were noted */
};

struct record {
  uint32_t magic, kind;
  uint64_t offset, old_size, old_length, new_length;
};

static const char *const SUFFIX[FILES] = {"", "-wal", "-journal"};
static const char *const NAME[FILES] = {"db", "wal", "journal"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static signed char kind_of[FDS]; /* 0: not watched, else 1 + DB, WAL, JOURNAL or DIRECTORY */
static char store[PATH_MAX], folder[PATH_MAX], side[PATH_MAX];
static int undo[FILES] = {-1, -1, -1};
static int doomed[FILES]; /* a sync of the file has failed, and its log is kept */
static struct control *control;
static int ready;

static void die(const char *why) {
  dprintf(2, "faultfs: %s: %s\n", why, strerror(errno));
  _exit(99);
}

static void note_path(char *path, int file, const char *ending) {
  snprintf(path, PATH_MAX, "%.3000s/%s.%s", side, NAME[file], ending);
}

static int raw_open(const char *path, int flags, mode_t mode) {
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULTFS_STORE"), *notes = getenv("FAULTFS_SIDE");
  char file[PATH_MAX];
  if (!path || !notes) return;
  snprintf(store, sizeof store, "%s", path);
  snprintf(side, sizeof side, "%s", notes);
  snprintf(folder, sizeof folder, "%s", path);
  *strrchr(folder, '/') = 0;
  snprintf(file, sizeof file, "%.3000s/control", side);
  int fd = raw_open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof *control)) die("control");
  control = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (control == MAP_FAILED) die("control");
  syscall(SYS_close, fd);
  for (int each = 0; each < FILES; each++) {
    note_path(file, each, "undo");
    undo[each] = raw_open(file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (undo[each] < 0) die(file);
  }
  ready = 1;
}

static int watched(int fd) {
  return ready && fd >= 0 && fd < FDS ? kind_of[fd] - 1 : -1;
}

static int named(const char *path) {
  size_t length = strlen(store);
  if (!ready || !path) return -1;
  if (!strcmp(path, folder)) return DIRECTORY;
  if (strncmp(path, store, length)) return -1;
  for (int file = 0; file < FILES; file++)
    if (!strcmp(path + length, SUFFIX[file])) return file;
  return -1;
}

/* --- the undo log ---------------------------------------------------------------------- */

static void append(int file, const struct record *head, const void *old, const void *new) {
  struct iovec parts[3] = {{(void *)head, sizeof *head},
                           {(void *)old, head->old_length},
                           {(void *)new, head->new_length}};
  ssize_t all = (ssize_t)(sizeof *head + head->old_length + head->new_length);
  if (syscall(SYS_writev, undo[file], parts, 3) != all) die("undo log");
}

static void mark(int file, uint32_t kind) {
  struct record head = {MAGIC, kind, 0, 0, 0, 0};
  append(file, &head, 0, 0);
}

static void *bytes_of(int fd, uint64_t offset, uint64_t length) {
  char *data = malloc(length + 1);
  uint64_t done = 0;
  if (!data) die("memory");
  while (done < length) {
    long got = syscall(SYS_pread64, fd, data + done, length - done, offset + done);
    if (got <= 0) die("reading old bytes");
    done += (uint64_t)got;
  }
  return data;
}

static uint64_t size_of(int fd) {
  struct stat status;
  if (fstat(fd, &status)) die("size");
  return (uint64_t)status.st_size;
}

static void note_write(int fd, int file, const void *data, size_t length, uint64_t offset) {
  uint64_t size = size_of(fd), end = offset + length;
  uint64_t old = offset >= size ? 0 : (end < size ? end : size) - offset;
  struct record head = {MAGIC, WRITE, offset, size, old, length};
  void *bytes = bytes_of(fd, offset, old);
  append(file, &head, bytes, data);
  free(bytes);
  control->writes++;
}

static void note_truncate(int fd, int file, uint64_t length) {
  uint64_t size = size_of(fd), old = length < size ? size - length : 0;
  struct record head = {MAGIC, TRUNCATE, length, size, old, 0};
  void *bytes = bytes_of(fd, length, old);
  append(file, &head, bytes, 0);
  free(bytes);
}

static int sync_file(int fd, int file, long number) {
  if (control->sync_error && (control->sync_files >> file & 1)) {
    mark(file, SYNC_FAILED);
    doomed[file] = 1;
    control->faults++;
    errno = control->sync_error;
    return -1;
  }
  if (syscall(number, fd)) return -1;
  if (doomed[file])
    mark(file, SYNCED);
  else if (syscall(SYS_ftruncate, undo[file], 0L))
    die("undo log");
  control->syncs++;
  return 0;
}

static int sync_any(int fd, long number) {
  int file = watched(fd), result;
  if (file < 0) return (int)syscall(number, fd);
  pthread_mutex_lock(&lock);
  if (file == DIRECTORY) {
    char path[PATH_MAX];
    result = (int)syscall(number, fd);
    for (int each = 0; !result && each < FILES; each++) {
      note_path(path, each, "created");
      syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    }
  } else {
    result = sync_file(fd, file, number);
  }
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

/* --- what the server calls ------------------------------------------------------------- */

static int open_any(const char *path, int flags, mode_t mode) {
  int file = named(path);
  if (file < 0) return raw_open(path, flags, mode);
  pthread_mutex_lock(&lock);
  int fresh = file != DIRECTORY && (flags & O_CREAT) && access(path, F_OK);
  if (fresh) {
    /* The note first: a kill between the two must not make the file look durable. */
    char note[PATH_MAX];
    note_path(note, file, "created");
    int fd = raw_open(note, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) die(note);
    syscall(SYS_close, fd);
  }
  int fd = raw_open(path, flags, mode), error = errno;
  if (fd >= FDS) die("too many files");
  if (fd >= 0) kind_of[fd] = (signed char)(file + 1);
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define OPEN(name)                              \
  int name(const char *path, int flags, ...) {  \
    mode_t mode = 0;                            \
    if (flags & (O_CREAT | O_TMPFILE)) {        \
      va_list rest;                             \
      va_start(rest, flags);                    \
      mode = va_arg(rest, mode_t);              \
      va_end(rest);                             \
    }                                           \
    return open_any(path, flags, mode);         \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  if (watched(fd) >= 0) kind_of[fd] = 0;
  return (int)syscall(SYS_close, fd);
}

int unlink(const char *path) {
  int file = named(path), result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
  if (!result && file >= 0 && file != DIRECTORY) {
    char note[PATH_MAX];
    int error = errno;
    pthread_mutex_lock(&lock);
    note_path(note, file, "created");
    syscall(SYS_unlinkat, AT_FDCWD, note, 0);
    if (syscall(SYS_ftruncate, undo[file], 0L)) die("undo log");
    doomed[file] = 0;
    pthread_mutex_unlock(&lock);
    errno = error;
  }
  return result;
}

static ssize_t pwrite_any(int fd, const void *data, size_t length, off64_t offset) {
  int file = watched(fd);
  if (file < 0 || file == DIRECTORY)
    return syscall(SYS_pwrite64, fd, data, length, offset);
  pthread_mutex_lock(&lock);
  note_write(fd, file, data, length, (uint64_t)offset);
  ssize_t done = syscall(SYS_pwrite64, fd, data, length, offset);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
  return pwrite_any(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  return pwrite_any(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
  int file = watched(fd);
  if (file < 0 || file == DIRECTORY) return syscall(SYS_write, fd, data, length);
  off64_t offset = syscall(SYS_lseek, fd, 0L, SEEK_CUR);
  ssize_t done = pwrite_any(fd, data, length, offset);
  if (done > 0) syscall(SYS_lseek, fd, offset + done, SEEK_SET);
  return done;
}

static int truncate_any(int fd, off64_t length) {
  int file = watched(fd);
  if (file < 0 || file == DIRECTORY) return (int)syscall(SYS_ftruncate, fd, length);
  pthread_mutex_lock(&lock);
  note_truncate(fd, file, (uint64_t)length);
  int result = (int)syscall(SYS_ftruncate, fd, length), error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int ftruncate(int fd, off_t length) { return truncate_any(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncate_any(fd, length); }
int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

/* SQLite is built without these here; a build that used them would go unwatched. */
static void refuse(int fd, const char *what) {
  if (watched(fd) < 0) return;
  errno = ENOSYS;
  die(what);
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  refuse(fd, "posix_fallocate");
  return syscall(SYS_fallocate, fd, 0, offset, length) ? errno : 0;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  refuse(fd, "pwritev");
  return syscall(SYS_pwritev, fd, parts, count, offset, 0L);
}
