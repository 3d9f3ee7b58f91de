#ifndef CLINUX_TERMINAL_H
#define CLINUX_TERMINAL_H

#include <sys/ioctl.h>

extern int ioctl(int descriptor, unsigned long request, ...);

/// TIOCSWINSZ (ioctl_tty(2)); ioctl(2) is variadic.
static inline int CLinux_set_terminal_size(
    int terminal, unsigned short rows, unsigned short columns) {
  struct winsize size = {rows, columns, 0, 0};
  return ioctl(terminal, TIOCSWINSZ, &size);
}

#endif
