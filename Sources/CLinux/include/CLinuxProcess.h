#ifndef CLINUX_PROCESS_H
#define CLINUX_PROCESS_H

#include <linux/sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

// Functions whose headers can't be included beside the Glibc overlay's: they differ under
// _GNU_SOURCE.
extern int fcntl(int descriptor, int command, ...);
extern int open(const char *path, int flags, ...);
extern int prctl(int option, ...);

// memfd_create(2), fallocate(2): declared under _GNU_SOURCE only.
static inline int CLinux_memfd_create(const char *name, unsigned int flags) {
  return (int)syscall(SYS_memfd_create, name, flags);
}
static inline int CLinux_fallocate(int descriptor, int mode, int64_t offset, int64_t length) {
  return (int)syscall(SYS_fallocate, descriptor, mode, offset, length);
}

// pipe2(2).
static inline int CLinux_pipe(int ends[2], int flags) {
  return (int)syscall(SYS_pipe2, ends, flags);
}
#define CLINUX_O_PATH 010000000

// accept4(2) without the peer's address.
static inline int CLinux_accept(int listener, int flags) {
  return (int)syscall(SYS_accept4, listener, NULL, NULL, flags);
}

// SO_PEERCRED's value (unix(7)).
struct CLinux_credentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};

// rt_sigaction(2) to the default: glibc's signal(3) refuses 32 and 33, which its posix_spawn(3)
// leaves ignored.
static inline int CLinux_default_signal(int signal) {
  struct {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
  } action = {0, 0, 0, 0};
  return (int)syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof(action.mask));
}

// The f_type of statfs(2), -1 on failure.
static inline long CLinux_file_system_type(const char *path) {
  struct {
    long type;
    long rest[31];
  } status;
  return syscall(SYS_statfs, path, &status) == -1 ? -1 : status.type;
}

// sched_setscheduler(2) of the calling thread: glibc's struct has more than the kernel's. SCHED_OTHER is 0,
// SCHED_FIFO is 1.
static inline int CLinux_set_scheduler(int policy, int priority) {
  return (int)syscall(SYS_sched_setscheduler, 0, policy, &priority);
}

// Flags of posix_spawnattr_setflags(3) that glibc has under _GNU_SOURCE only.
#define CLINUX_POSIX_SPAWN_SETSID 0x80

// Closes what is open from a descriptor on, in the child; glibc declares it under _GNU_SOURCE only.
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
static inline int CLinux_posix_spawn_closefrom(posix_spawn_file_actions_t *actions, int from) {
  return posix_spawn_file_actions_addclosefrom_np(actions, from);
}

// clone3(2): glibc has no wrapper. Only for forms that copy the memory: with CLONE_VM the child
// would need a stack of its own.
static inline long CLinux_clone3(struct clone_args *args, size_t size) {
  return syscall(SYS_clone3, args, size);
}

// pidfd_open(2): may go with glibc 2.36 as the oldest.
static inline int CLinux_pidfd_open(pid_t pid, unsigned int flags) {
  return (int)syscall(SYS_pidfd_open, pid, flags);
}

// pidfd_send_signal(2): may go with glibc 2.36 as the oldest.
static inline int CLinux_pidfd_send_signal(int pidfd, int signal) {
  return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

// close_range(2)'s.
#define CLINUX_CLOSE_RANGE_CLOEXEC (1U << 2)

// waitid(2) with the rusage left out, and the two members of siginfo_t that are macros.
static inline int CLinux_waitid(int type, unsigned int id, siginfo_t *info, int options) {
  return (int)syscall(SYS_waitid, type, id, info, options, NULL);
}
static inline pid_t CLinux_siginfo_pid(const siginfo_t *info) { return info->si_pid; }
static inline int CLinux_siginfo_status(const siginfo_t *info) { return info->si_status; }
#define CLINUX_P_ALL 0
#define CLINUX_P_PID 1

// prctl(2) is variadic.
static inline int CLinux_prctl(int option, unsigned long argument) {
  return prctl(option, argument, 0L, 0L, 0L);
}
#define CLINUX_PR_SET_CHILD_SUBREAPER 36
#define CLINUX_PR_SET_NO_NEW_PRIVS 38
#define CLINUX_PR_SET_PDEATHSIG 1

// fcntl(2) is variadic.
static inline int CLinux_fcntl_int(int descriptor, int command, int argument) {
  return fcntl(descriptor, command, argument);
}

// sendfile(2) from the source's position on; its header is not in the Glibc overlay.
static inline long CLinux_sendfile(int target, int source, size_t count) {
  return syscall(SYS_sendfile, target, source, NULL, count);
}

// open(2) is variadic.
static inline int CLinux_open(const char *path, int flags, mode_t mode) {
  return open(path, flags, mode);
}

// prlimit(2) of this process.
struct CLinux_limit {
  uint64_t soft, hard;
};
static inline int CLinux_prlimit(
    int resource, const struct CLinux_limit *set, struct CLinux_limit *get) {
  return (int)syscall(SYS_prlimit64, 0, resource, set, get);
}

// capset(2) of this thread: exactly these capabilities, permitted and effective, none inheritable.
static inline int CLinux_capset(uint32_t low, uint32_t high) {
  struct {
    uint32_t version;
    int pid;
  } header = {0x20080522 /* _LINUX_CAPABILITY_VERSION_3 */, 0};
  uint32_t data[2][3] = {{low, low, 0}, {high, high, 0}};
  return (int)syscall(SYS_capset, &header, data);
}

// mallopt(3), M_ARENA_MAX: Glibc's overlay leaves malloc.h out; may go when it has it.
static inline int CLinux_limit_arenas(int count) { return mallopt(M_ARENA_MAX, count); }

// syncfs(2): declared under _GNU_SOURCE only.
static inline int CLinux_syncfs(int descriptor) { return (int)syscall(SYS_syncfs, descriptor); }

// A file handle in a buffer of fixed size (MAX_HANDLE_SZ): the member it ends with in C has none.
struct CLinux_file_handle {
  unsigned int handle_bytes;
  int handle_type;
  unsigned char f_handle[128];
};

// name_to_handle_at(2) of the descriptor itself.
static inline int CLinux_descriptor_to_handle(int descriptor, struct CLinux_file_handle *handle) {
  int mount_id = 0;
  return (int)syscall(SYS_name_to_handle_at, descriptor, "", handle, &mount_id, 0x1000 /* AT_EMPTY_PATH */);
}

// open_by_handle_at(2).
static inline int CLinux_open_by_handle(
    int mount, struct CLinux_file_handle *handle, int flags) {
  return (int)syscall(SYS_open_by_handle_at, mount, handle, flags);
}

// ioctl_pidfd(2), PIDFD_GET_INFO (Linux 6.13; exit code 6.15): may go when <linux/pidfd.h> of the
// oldest host has it.
struct CLinux_pidfd_info {
  uint64_t mask;
  uint64_t cgroupid;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
#define CLINUX_PIDFD_INFO_EXIT (1ULL << 3)
static inline int CLinux_pidfd_get_info(int pidfd, struct CLinux_pidfd_info *info) {
  return ioctl(pidfd, _IOWR(0xFF, 11, struct CLinux_pidfd_info), info);
}

#endif
