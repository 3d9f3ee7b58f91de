#ifndef CLINUX_NETWORK_H
#define CLINUX_NETWORK_H

#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

extern int ioctl(int descriptor, unsigned long request, ...);
extern int ppoll(
    struct pollfd *descriptors, nfds_t count, const struct timespec *timeout,
    const sigset_t *signals);

// bind(2) of a packet socket (packet(7)), which then does not hear what its own host sends:
// sockaddr_ll is not in the Glibc overlay. The protocol is in host order here.
static inline int CLinux_bind_packet(int descriptor, int index, uint16_t protocol) {
  int one = 1;
  if (setsockopt(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) != 0) return -1;
  struct sockaddr_ll address = {0};
  address.sll_family = AF_PACKET;
  address.sll_protocol = (uint16_t)(protocol << 8 | protocol >> 8);
  address.sll_ifindex = index;
  return bind(descriptor, (const struct sockaddr *)&address, sizeof(address));
}

// ppoll(2) of one descriptor, so that a wait can be shorter than a millisecond.
static inline int CLinux_await_input(int descriptor, int64_t nanoseconds) {
  struct pollfd waiting = {.fd = descriptor, .events = POLLIN};
  struct timespec timeout = {
      .tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
  return ppoll(&waiting, 1, &timeout, 0);
}

// SIOCGSTAMPNS (socket(7)): when the frame that was read last came, nanoseconds since 1970; the first call
// has the kernel keep such times. ioctl(2) is variadic.
static inline int CLinux_stamp(int descriptor, int64_t *nanoseconds) {
  struct timespec time;
  int result = ioctl(descriptor, SIOCGSTAMPNS, &time);
  *nanoseconds = result == 0 ? (int64_t)time.tv_sec * 1000000000 + time.tv_nsec : 0;
  return result;
}

// TUNSETIFF (linux/if_tun.h) of an open /dev/net/tun; ioctl(2) is variadic. The structure is that
// of <linux/if.h>, which can't be included beside glibc's <net/if.h>.
static inline int CLinux_set_tap(int descriptor, const char *name, unsigned short flags) {
  struct {
    char name[16];
    unsigned short flags;
    char rest[22];
  } request = {{0}, flags, {0}};
  for (int i = 0; i < 15 && name[i]; i++) request.name[i] = name[i];
  return ioctl(descriptor, 0x400454ca, &request);
}

// SIOCGIFINDEX (netdevice(7)) in the network namespace of an open socket, of whatever family.
static inline int CLinux_link_index(int descriptor, const char *name) {
  struct {
    char name[16];
    int index;
    char rest[20];
  } request = {{0}, 0, {0}};
  for (int i = 0; i < 15 && name[i]; i++) request.name[i] = name[i];
  return ioctl(descriptor, 0x8933, &request) == -1 ? -1 : request.index;
}

#endif
