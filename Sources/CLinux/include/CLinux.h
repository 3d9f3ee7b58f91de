// Declarations and inline wrappers for what the Glibc overlay hides (variadic calls,
// system calls without a wrapper, function-like macros). No logic. Every wrapper is
// prefixed `CLinux_` and says when it may go.
#ifndef CLINUX_H
#define CLINUX_H

// Without _GNU_SOURCE: glibc's own structures (fd_set) would differ from those that the other C
// modules of this build import.
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <sys/prctl.h>

// prctl(2) is variadic, which Swift does not import; may go when Glibc's overlay has it.
static inline int CLinux_set_thread_name(const char *name) {
  return prctl(PR_SET_NAME, name, 0, 0, 0);
}

#include "CLinuxNetwork.h"
#include "CLinuxProcess.h"
#include "CLinuxMount.h"
#include "CLinuxTerminal.h"
#include "CLinuxMachine.h"
#include "CLinuxCalls.h"

#endif
