/* Loaded before libc: writes down, in order, what a process does to the files below POWER_LOSS_ROOT.
 *
 * Each entry of the file POWER_LOSS_TRACE: operation (1 byte), lengths of two paths and of the data (4 bytes
 * each), inode and offset (8 bytes each), all little-endian; then the paths and the data. An entry is written
 * when the operation has returned, so that a sync stands behind everything that it has made durable.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int trace = -1;
static char root[4096];

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("POWER_LOSS_TRACE"), *folder = getenv("POWER_LOSS_ROOT");
    if (path == NULL || folder == NULL) return;
    strncpy(root, folder, sizeof root - 1);
    trace = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int inside(const char *path) {
    size_t length = strlen(root);
    return trace >= 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int of_descriptor(int descriptor, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static uint64_t inode_of(int descriptor) {
    struct stat facts;
    return fstat(descriptor, &facts) == 0 ? facts.st_ino : 0;
}

static void note(char operation, const char *one, const char *two, uint64_t inode, uint64_t offset,
                 const void *data, size_t size) {
    unsigned char head[29];
    uint32_t lengths[3] = {one ? strlen(one) : 0, two ? strlen(two) : 0, size};
    head[0] = operation;
    memcpy(head + 1, lengths, 12);
    memcpy(head + 13, &inode, 8);
    memcpy(head + 21, &offset, 8);
    struct iovec parts[4] = {{head, 29}, {(void *)one, lengths[0]}, {(void *)two, lengths[1]}, {(void *)data, size}};
    int before = errno;
    pthread_mutex_lock(&lock);
    syscall(SYS_writev, trace, parts, 4);
    pthread_mutex_unlock(&lock);
    errno = before;
}

static int opened(int descriptor, const char *path, int flags, int existed) {
    char full[4096];
    if (descriptor >= 0 && of_descriptor(descriptor, full, sizeof full)) {
        if (!existed && (flags & O_CREAT)) note('c', full, NULL, inode_of(descriptor), 0, NULL, 0);
        else if (flags & O_TRUNC) note('t', NULL, NULL, inode_of(descriptor), 0, NULL, 0);
    }
    return descriptor;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...) {                        \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        mode_t mode = va_arg(rest, mode_t);                             \
        va_end(rest);                                                   \
        struct stat facts;                                              \
        int existed = trace >= 0 && stat(path, &facts) == 0;            \
        return opened(NEXT(name)(path, flags, mode), path, flags, existed); \
    }
OPEN(open)
OPEN(open64)

static ssize_t written(int descriptor, const void *data, ssize_t size, off_t offset) {
    char path[4096];
    if (size > 0 && of_descriptor(descriptor, path, sizeof path))
        note('w', NULL, NULL, inode_of(descriptor), offset, data, size);
    return size;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    ssize_t done = NEXT(write)(descriptor, data, size);
    if (trace < 0 || done <= 0) return done;
    off_t end = lseek(descriptor, 0, SEEK_CUR);
    return end < 0 ? done : written(descriptor, data, done, end - done);
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    return written(descriptor, data, NEXT(pwrite)(descriptor, data, size, offset), offset);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset) {
    return written(descriptor, data, NEXT(pwrite64)(descriptor, data, size, offset), offset);
}

static int truncated(int descriptor, off_t size, int result) {
    char path[4096];
    if (result == 0 && of_descriptor(descriptor, path, sizeof path))
        note('t', NULL, NULL, inode_of(descriptor), size, NULL, 0);
    return result;
}

int ftruncate(int descriptor, off_t size) { return truncated(descriptor, size, NEXT(ftruncate)(descriptor, size)); }
int ftruncate64(int descriptor, off_t size) {
    return truncated(descriptor, size, NEXT(ftruncate64)(descriptor, size));
}

static int synced(int descriptor, int result) {
    char path[4096];
    if (result == 0 && of_descriptor(descriptor, path, sizeof path))
        note('s', path, NULL, inode_of(descriptor), 0, NULL, 0);
    return result;
}

int fsync(int descriptor) { return synced(descriptor, NEXT(fsync)(descriptor)); }
int fdatasync(int descriptor) { return synced(descriptor, NEXT(fdatasync)(descriptor)); }

int rename(const char *from, const char *to) {
    int result = NEXT(rename)(from, to);
    if (result == 0 && inside(to)) note('r', from, to, 0, 0, NULL, 0);
    return result;
}

int unlink(const char *path) {
    int result = NEXT(unlink)(path);
    if (result == 0 && inside(path)) note('u', path, NULL, 0, 0, NULL, 0);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    int result = NEXT(mkdir)(path, mode);
    if (result == 0 && inside(path)) note('d', path, NULL, 0, 0, NULL, 0);
    return result;
}
