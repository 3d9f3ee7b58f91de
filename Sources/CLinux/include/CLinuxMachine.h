#ifndef CLINUX_MACHINE_H
#define CLINUX_MACHINE_H

#include <linux/reboot.h>
#include <stdint.h>
#include <sys/io.h>
#include <sys/ioctl.h>

extern int ioctl(int descriptor, unsigned long request, ...);

// finit_module(2): glibc has no wrapper.
static inline int CLinux_load_module(int descriptor, const char *parameters) {
  return (int)syscall(SYS_finit_module, descriptor, parameters, 0);
}

// reboot(2) to power off.
static inline int CLinux_power_off(void) {
  return (int)syscall(
      SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, NULL);
}

// An octet to a port of the machine; ioperm(2) says why not.
static inline int CLinux_write_port(uint16_t port, uint8_t octet) {
  if (ioperm(port, 1, 1) == -1) return -1;
  outb(octet, port);
  return 0;
}

// sethostname(2): declared under _GNU_SOURCE only.
static inline int CLinux_set_host_name(const char *name, size_t length) {
  return (int)syscall(SYS_sethostname, name, length);
}

// TIOCSPTLCK and TIOCGPTPEER (ioctl_tty(2)): unlocks a terminal and opens its other end.
static inline int CLinux_open_terminal_peer(int master, int flags) {
  int unlocked = 0;
  if (ioctl(master, 0x40045431, &unlocked) == -1) return -1;
  return ioctl(master, 0x5441, flags);
}

#endif
