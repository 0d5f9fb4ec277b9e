// SPDX-License-Identifier: Apache-2.0
// A library to preload: it counts the system calls that change files under one folder, and at the
// n-th of them kills the process (before it, after it, or halfway through a write), or makes it
// fail; or from the n-th on it writes half of what was asked, or interrupts every other call. Production code knows nothing of it. Build: cc -shared -fPIC -O1 -o faults.so faults.c -ldl
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT = 0, KILL_BEFORE = 1, KILL_AFTER = 2, TORN = 3, FAIL_ONCE = 4, FAIL_ON = 5,
       SHORT_ON = 6, INTERRUPT_ON = 7 };

static char match[PATH_MAX], only_call[16], only_path[PATH_MAX];
static long at, count, aimed;
static int action, fault, told = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Arm it for files whose path begins with `folder`; `log` gets one line a call, or is empty. With
// `only`, a call and a pattern of what follows `folder`, the n-th of those calls is meant.
void faults_arm(const char *folder, long n, int what, int error, const char *log, const char *only) {
  const char *space = strchr(only, ' ');
  snprintf(match, sizeof match, "%s", folder);
  snprintf(only_call, sizeof only_call, "%.*s", space ? (int)(space - only) : 0, only);
  snprintf(only_path, sizeof only_path, "%s", space ? space + 1 : "");
  at = n, action = what, fault = error, count = aimed = 0;
  told = *log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
}

long faults_count(void) { return count; }

__attribute__((constructor)) static void from_environment(void) {
  const char *folder = getenv("FAULTS_MATCH"), *n = getenv("FAULTS_AT"), *what = getenv("FAULTS_ACTION"),
             *error = getenv("FAULTS_ERRNO"), *log = getenv("FAULTS_LOG");
  if (folder) faults_arm(folder, n ? atol(n) : 0, what ? atoi(what) : 0, error ? atoi(error) : 0, log ? log : "", "");
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

// What is to be done about this call: 0 nothing, else the armed action.
static int due(const char *name, const char *path) {
  if (!*match || strncmp(path, match, strlen(match))) return 0;
  pthread_mutex_lock(&lock);
  long n = ++count;
  if (told >= 0) {
    char line[PATH_MAX + 64];
    int size = snprintf(line, sizeof line, "%ld %s %s\n", n, name, path + strlen(match));
    if (syscall(SYS_write, told, line, size) < 0) told = -1;
  }
  if (*only_call) {
    int other = strcmp(name, only_call) || fnmatch(only_path, path + strlen(match), FNM_PATHNAME);
    n = other ? 0 : ++aimed;
  }
  pthread_mutex_unlock(&lock);
  if (!n) return 0;
  if (action == INTERRUPT_ON && (n % 2 || strstr(path, "/lineage."))) return 0;  // DuckDB gives up
  if (action >= FAIL_ON ? n < at : n != at) return 0;
  return at > 0 ? action : 0;
}

static int due_open(const char *name, int fd) {
  char link[64], path[PATH_MAX];
  if (!*match) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return due(name, path);
}

static size_t half(size_t size) { return size > 1 ? size / 2 : size; }

static int fails(int what) { return what == FAIL_ONCE || what == FAIL_ON; }

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define AROUND(what, call)                          \
  do {                                              \
    if (fails(what)) { errno = fault; return -1; }  \
    if ((what) == INTERRUPT_ON) { errno = EINTR; return -1; } \
    if ((what) == KILL_BEFORE || (what) == TORN) die(); \
    __typeof__(call) result = (call);               \
    if ((what) == KILL_AFTER) die();                \
    return result;                                  \
  } while (0)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  int what = due_open("write", fd);
  if (what == TORN) { if (real(fd, data, size / 2) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(fd, data, size));
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
  REAL(pwrite);
  int what = due_open("pwrite", fd);
  if (what == TORN) { if (real(fd, data, size / 2, offset) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(fd, data, size, offset));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  REAL(pwrite64);
  int what = due_open("pwrite", fd);
  if (what == TORN) { if (real(fd, data, size / 2, offset) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(fd, data, size, offset));
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
  REAL(writev);
  int what = due_open("writev", fd);
  if (what == TORN && n > 0) { if (real(fd, parts, n > 1 ? n / 2 : 1) >= 0) die(); }
  if (what == SHORT_ON && n > 1) n /= 2;
  AROUND(what, real(fd, parts, n));
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) {
  REAL(copy_file_range);
  int what = due_open("copy", to);
  if (what == TORN) { if (real(from, a, to, b, size / 2, flags) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(from, a, to, b, size, flags));
}

ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
  static ssize_t (*real)(int, int, off_t *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "sendfile");
  int what = due_open("copy", to);
  if (what == TORN) { if (real(to, from, offset, size / 2) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(to, from, offset, size));
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t size) {
  static ssize_t (*real)(int, int, off64_t *, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
  int what = due_open("copy", to);
  if (what == TORN) { if (real(to, from, offset, size / 2) >= 0) die(); }
  if (what == SHORT_ON) size = half(size);
  AROUND(what, real(to, from, offset, size));
}

int fsync(int fd) { REAL(fsync); int what = due_open("fsync", fd); AROUND(what, real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); int what = due_open("fsync", fd); AROUND(what, real(fd)); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); int what = due_open("ftruncate", fd); AROUND(what, real(fd, size)); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); int what = due_open("ftruncate", fd); AROUND(what, real(fd, size)); }
// The kernel restarts or never interrupts these.
static int whole(int what) { return what == SHORT_ON || what == INTERRUPT_ON ? 0 : what; }

int rename(const char *a, const char *b) { REAL(rename); int what = whole(due("rename", b)); AROUND(what, real(a, b)); }
int link(const char *a, const char *b) { REAL(link); int what = whole(due("link", b)); AROUND(what, real(a, b)); }
int unlink(const char *path) { REAL(unlink); int what = whole(due("unlink", path)); AROUND(what, real(path)); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); int what = whole(due("mkdir", path)); AROUND(what, real(path, mode)); }
