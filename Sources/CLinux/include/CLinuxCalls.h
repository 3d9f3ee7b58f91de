#ifndef CLINUX_CALLS_H
#define CLINUX_CALLS_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// System calls that one process has written down and another makes: a child between fork(2) and
// execve(2), or the copy of a program that waits (CZygote). Here rather than in Swift, as that program
// has no Swift runtime.

// What an argument is: itself, octets from an offset on, a descriptor from a list, or what an earlier
// call has returned.
enum { CLINUX_VALUE, CLINUX_OCTETS, CLINUX_GIVEN, CLINUX_RESULT };
// Instead of a call's number: the second argument is written where the first one points to, 64 bits.
#define CLINUX_STORE (-1)
enum { CLINUX_MOST_CALLS = 256 };

struct CLinux_call {
  int64_t number;
  int64_t arguments[6];
  // What each argument is, four bits each from the lowest on.
  uint32_t kinds;
  // The errno that is as good as success; 0: none.
  int32_t tolerated;
  // Where in the octets the call's name is, for messages.
  uint32_t label;
  // Whether its result is the descriptor that failures are told to from now on.
  uint32_t is_pipe;
};

// Returns the first call that failed, with its errno; -1 where none did.
static inline int32_t CLinux_perform(const struct CLinux_call *calls, uint32_t count, char *octets,
                                     const int32_t *given, int32_t *pipe) {
  long results[CLINUX_MOST_CALLS];
  for (uint32_t i = 0; i < count; i++) {
    long a[6];
    for (int j = 0; j < 6; j++) {
      long value = calls[i].arguments[j];
      switch (calls[i].kinds >> (4 * j) & 15) {
      case CLINUX_VALUE: a[j] = value; break;
      case CLINUX_OCTETS: a[j] = (long)(octets + value); break;
      case CLINUX_GIVEN: a[j] = given[value]; break;
      default: a[j] = results[value];
      }
    }
    if (calls[i].number == CLINUX_STORE) {
      memcpy((void *)a[0], &a[1], sizeof a[1]);
      continue;
    }
    do {
      results[i] = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
    } while (results[i] == -1 && errno == EINTR);
    if (results[i] == -1 && errno != calls[i].tolerated) return (int32_t)i;
    if (calls[i].is_pipe) *pipe = (int32_t)results[i];
  }
  return -1;
}

#endif
