#ifndef CLINUX_MOUNT_H
#define CLINUX_MOUNT_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/mount.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

// The descriptor-based mount calls (Linux 5.2 to 5.12). glibc has wrappers from 2.36 on; these may
// go when no older one is supported.

/// fsopen(2).
static inline int CLinux_fsopen(const char *type, unsigned int flags) {
  return (int)syscall(SYS_fsopen, type, flags);
}

/// fsconfig(2): FSCONFIG_SET_FLAG (0), FSCONFIG_SET_STRING (1), FSCONFIG_CMD_CREATE (6).
static inline int CLinux_fsconfig(
    int context, unsigned int command, const char *key, const char *value) {
  return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}

/// fsmount(2).
static inline int CLinux_fsmount(int context, unsigned int flags, unsigned int attributes) {
  return (int)syscall(SYS_fsmount, context, flags, attributes);
}

/// pivot_root(2), which has no wrapper in glibc.
static inline int CLinux_pivot_root(const char *new_root, const char *put_old) {
  return (int)syscall(SYS_pivot_root, new_root, put_old);
}

// openat2(2) with RESOLVE_IN_ROOT: links are followed as if `folder` were the root. glibc 2.36 has
// no wrapper; may go when it has.
static inline long CLinux_openat2_in_root(int folder, const char *path, uint64_t flags) {
  struct {
    uint64_t flags, mode, resolve;
  } how = {flags, 0, 0x10 /* RESOLVE_IN_ROOT */};
  return syscall(SYS_openat2, folder, path, &how, sizeof how);
}

// openat(2) is variadic, which Swift does not import.
static inline int CLinux_openat(int folder, const char *path, int flags, mode_t mode) {
  return (int)syscall(SYS_openat, folder, path, flags, mode);
}

#endif
