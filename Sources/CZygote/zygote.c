// What martlet-hold loads into a program beside its libraries (LD_PRELOAD) to have it wait between its
// loading and its main(): each request then forks it there, and the copy goes on with arguments,
// descriptors, namespaces and user of its own. What the loader did (of QEMU: 51 libraries, 248,000
// relocations, 15 ms, 5 MB of memory; of crun: 10 libraries, 1 ms) is done once and shared.
//
// C, since it runs in a program that has no Swift runtime, before that program's own code. It may go
// when the programs that are started so load in a millisecond.
//
// The requests' form is that of Zygote.swift in martlet-hold, the only one who has the other end of the
// socket, and who sees to it that they fit: at most as many arguments and variables together, and
// octets of arguments, as the zygote has arguments. What a copy does before it is the program,
// martlet-hold has written down as system calls (CLinuxCalls.h), as for its own children. What fails is
// written into the error pipe as errno (32 bits) and the call's name, as they do.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "CLinuxCalls.h"

enum { CZygote_socket = 3, CZygote_library = 4, CZygote_most_descriptors = 128 };

// All little-endian; then the calls, their octets, and the arguments, each text with a zero at its end.
struct CZygote_request {
  uint32_t clone_flags, has_cgroup, calls, octets, arguments, unused;
};

static union {
  struct CZygote_request request;
  char octets[1 << 17];
  int64_t aligned;
} CZygote_message;

// Where the kernel has put the zygote's arguments, one after another.
static struct {
  char *begin;
  size_t size;
} CZygote_arguments;

static void CZygote_fail(int pipe, const char *step) {
  int32_t code = errno;
  char text[1000];
  memcpy(text, &code, sizeof code);
  int length = snprintf(text + sizeof code, sizeof text - sizeof code, "%s: %s", step, strerror(code));
  if ((size_t)length > sizeof text - sizeof code - 1) length = sizeof text - sizeof code - 1;
  if (write(pipe, text, sizeof code + (size_t)length) < 0) _exit(126);
  _exit(127);
}

// A packet to martlet-hold: a process and the descriptor of it, or an error below zero.
// Says whether there is still somebody to take it.
static int CZygote_answer(int32_t value, int descriptor) {
  struct iovec data = {&value, sizeof value};
  union {
    char octets[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
  } control = {{0}};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  if (descriptor >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &descriptor, sizeof descriptor);
  }
  return sendmsg(CZygote_socket, &message, MSG_NOSIGNAL) >= 0;
}

// One packet and its descriptors; ends the zygote with martlet-hold.
static size_t CZygote_receive(int *descriptors, size_t *count) {
  union {
    char octets[CMSG_SPACE(CZygote_most_descriptors * sizeof(int))];
    struct cmsghdr header;
  } control;
  struct iovec data = {CZygote_message.octets, sizeof CZygote_message - 1};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
                           .msg_controllen = sizeof control};
  ssize_t length;
  do {
    length = recvmsg(CZygote_socket, &message, MSG_CMSG_CLOEXEC);
  } while (length < 0 && errno == EINTR);
  if (length <= 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) _exit(0);
  *count = 0;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    size_t size = part->cmsg_len - CMSG_LEN(0);
    memcpy(descriptors + *count, CMSG_DATA(part), size);
    *count += size / sizeof(int);
  }
  CZygote_message.octets[length] = 0;
  return (size_t)length;
}

// The copy becomes what is asked; `given` are the error pipe, what else the calls name, and the control
// group that it was born in, where there is one.
static void CZygote_become(const struct CZygote_request *request, const int *given, char **argv) {
  const struct CLinux_call *calls = (const struct CLinux_call *)(request + 1);
  char *octets = (char *)(calls + request->calls), *text = octets + request->octets;
  int pipe = given[0];
  int32_t failed = CLinux_perform(calls, request->calls, octets, given, &pipe);
  if (failed >= 0) CZygote_fail(pipe, octets + calls[failed].label);

  // Over the zygote's own, so that ps(1) shows them.
  char *place = CZygote_arguments.begin, **environment = environ;
  memset(place, 0, CZygote_arguments.size);
  uint32_t count = 0;
  for (; count < request->arguments; count++) {
    size_t length = strlen(text) + 1;
    argv[count] = memcpy(place, text, length);
    text += length;
    place += length;
  }
  // The program finds its arguments where the kernel has put those of the zygote, which are more: their
  // number, they, and the environment behind them.
  ((long *)argv)[-1] = count;
  argv[count++] = NULL;
  while (*environment) argv[count++] = *environment++;
  argv[count] = NULL;
}

// Before main(), when all libraries are ready.
__attribute__((constructor)) static void CZygote_wait(int argc, char **argv, char **environment) {
  (void)environment;
  if (!getenv("MARTLET_ZYGOTE")) return;
  unsetenv("MARTLET_ZYGOTE");
  unsetenv("LD_PRELOAD");
  close(CZygote_library);
  // Where the C library keeps this thread's number, which differs in each copy.
  int *thread = NULL;
  if (prctl(PR_GET_TID_ADDRESS, &thread, 0, 0, 0) || !thread) _exit(1);
  CZygote_arguments.begin = argv[0];
  CZygote_arguments.size = (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]) + 1;
  CZygote_answer(0, -1);
  while (1) {
    int given[CZygote_most_descriptors];
    size_t count;
    CZygote_receive(given, &count);
    const struct CZygote_request *request = &CZygote_message.request;
    // Twice: what libraries do after fork(2) is done in the first, and the second, which is not made by
    // fork(3), is born where it belongs and the hold's child as soon as the first has ended.
    pid_t first = fork();
    if (first == 0) {
      int process = -1;
      struct clone_args arguments = {
          .flags = request->clone_flags | CLONE_PIDFD | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
                   | (request->has_cgroup ? CLONE_INTO_CGROUP : 0),
          .pidfd = (uint64_t)(uintptr_t)&process, .child_tid = (uint64_t)(uintptr_t)thread,
          .exit_signal = SIGCHLD, .cgroup = request->has_cgroup ? (uint64_t)given[count - 1] : 0};
      long second = syscall(SYS_clone3, &arguments, sizeof arguments);
      if (second == 0) {
        CZygote_become(request, given, argv);
        return;
      }
      // A copy that comes too late was executed meanwhile.
      if (!CZygote_answer(second < 0 ? -errno : (int32_t)second, process) && second > 0)
        kill((pid_t)second, SIGKILL);
      _exit(0);
    }
    if (first < 0) CZygote_answer(-errno, -1);
    for (size_t i = 0; i < count; i++) close(given[i]);
    if (first > 0) waitpid(first, NULL, 0);
  }
}

// The Swift driver names its runtime to the linker for every library, and no option of a package comes
// before that name; what objects ask to be linked with does. May go when a library of C alone is linked
// as one of C.
__attribute__((section(".swift1_autolink_entries"), used)) static const char CZygote_linking[] =
    "-Wl,--as-needed";
