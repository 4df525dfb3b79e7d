"""Ending a process just before, or in the middle of, its nth call that changes the disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Loaded before the C library, whose calls it stands in for. Output is not counted, nor anything
# before maxsight_arm(n). With n below zero, the write that is cut short is call -n.
_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long left;
static int torn;

void maxsight_arm(int n) { torn = n < 0; atomic_store(&left, n < 0 ? -n : n); }

static int due(void) { return atomic_load(&left) > 0 && atomic_fetch_sub(&left, 1) == 1; }
static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define BEFORE(result, name, declared, given) \
    result name declared { if (due()) die(); return REAL(name) given; }

int rename(const char *, const char *);
int renameat(int, const char *, int, const char *);
int mkdir(const char *, mode_t);
int ftruncate64(int, off64_t);
ssize_t pwrite64(int, const void *, size_t, off64_t);

BEFORE(int, rename, (const char *a, const char *b), (a, b))
BEFORE(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
BEFORE(int, link, (const char *a, const char *b), (a, b))
BEFORE(int, linkat, (int a, const char *b, int c, const char *d, int e), (a, b, c, d, e))
BEFORE(int, unlink, (const char *a), (a))
BEFORE(int, unlinkat, (int a, const char *b, int c), (a, b, c))
BEFORE(int, mkdir, (const char *a, mode_t b), (a, b))
BEFORE(int, rmdir, (const char *a), (a))
BEFORE(int, fsync, (int a), (a))
BEFORE(int, ftruncate, (int a, off_t b), (a, b))
BEFORE(int, ftruncate64, (int a, off64_t b), (a, b))

ssize_t write(int fd, const void *data, size_t size) {
    if (fd > 2 && due()) { if (torn) REAL(write)(fd, data, size / 2); die(); }
    return REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    if (due()) { if (torn) REAL(pwrite)(fd, data, size / 2, at); die(); }
    return REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    if (due()) { if (torn) REAL(pwrite64)(fd, data, size / 2, at); die(); }
    return REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (fd > 2 && due()) { if (torn) REAL(write)(fd, parts->iov_base, parts->iov_len / 2); die(); }
    return REAL(writev)(fd, parts, count);
}
"""


def build(folder: Path) -> Path:
    """Compile it into ``folder``: a library for ``LD_PRELOAD``.

    Raises:
        subprocess.CalledProcessError: the compiler refuses.
        FileNotFoundError: there is none.
    """
    source, library = folder / "kill_points.c", folder / "kill_points.so"
    source.write_text(_SOURCE, encoding="ascii")
    command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library
