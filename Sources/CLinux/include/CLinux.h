// Declarations and inline wrappers for what the Glibc overlay hides (variadic calls,
// system calls without a wrapper, function-like macros). No logic. Every wrapper is
// prefixed `CLinux_` and says when it may go.
#ifndef CLINUX_H
#define CLINUX_H

// Without _GNU_SOURCE: glibc's own structures (fd_set) would differ from those that the other C
// modules of this build import.
#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "CLinuxNetwork.h"
#include "CLinuxProcess.h"
#include "CLinuxMount.h"

#endif
