#ifndef CLINUX_TERMINAL_H
#define CLINUX_TERMINAL_H

#include <fcntl.h>
#include <stddef.h>
#include <sys/ioctl.h>

extern int ioctl(int descriptor, unsigned long request, ...);

/// Unlocks a pseudoterminal's other end and opens it (TIOCSPTLCK, TIOCGPTPEER; ioctl_tty(2)): without
/// a path, which another /dev/pts could turn to something else. ioctl(2) is variadic.
static inline int CLinux_open_terminal_peer(int master) {
  int lock = 0;
  if (ioctl(master, TIOCSPTLCK, &lock) == -1) return -1;
  return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

/// TIOCSWINSZ.
static inline int CLinux_set_terminal_size(
    int terminal, unsigned short rows, unsigned short columns) {
  struct winsize size = {rows, columns, 0, 0};
  return ioctl(terminal, TIOCSWINSZ, &size);
}

#endif
