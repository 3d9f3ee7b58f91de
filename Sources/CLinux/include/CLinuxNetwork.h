#ifndef CLINUX_NETWORK_H
#define CLINUX_NETWORK_H

#include <linux/if_packet.h>
#include <sys/socket.h>

// socket(2) and bind(2) of packet(7): sockaddr_ll is not in the Glibc overlay. The protocol is in
// host order here.
static inline int CLinux_bind_packet(int descriptor, int index, uint16_t protocol) {
  struct sockaddr_ll address = {0};
  address.sll_family = AF_PACKET;
  address.sll_protocol = (uint16_t)(protocol << 8 | protocol >> 8);
  address.sll_ifindex = index;
  return bind(descriptor, (const struct sockaddr *)&address, sizeof(address));
}

#endif
