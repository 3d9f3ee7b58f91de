// What the hosted form calls of Linux: Embedded Swift has no Glibc module, and the macros of
// packet(7) are not seen by Swift. Each only wraps its call; negative results are -errno.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// A packet socket with both rings, of a few slots of `slot` octets (a power of two, at least a
// page), bound to an interface; frames with virtio_net_hdr, promiscuous, not its own.
static inline int CHosted_openPort(const char *name, uint32_t slot, uint32_t slots, void **memory) {
  unsigned index = if_nametoindex(name);
  if (index == 0) return -errno;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int version = TPACKET_V2, one = 1;
  struct tpacket_req ring = {.tp_block_size = slot, .tp_block_nr = slots, .tp_frame_size = slot, .tp_frame_nr = slots};
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
  struct packet_mreq all = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_LOSS, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &ring, sizeof ring) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) == 0 &&
      bind(fd, (struct sockaddr *)&address, sizeof address) == 0) {
    *memory = mmap(0, 2ul * slot * slots, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*memory != MAP_FAILED) return fd;
  }
  int error = -errno;
  close(fd);
  return error;
}

// Lets the kernel take what stands in the ring to send.
static inline int CHosted_flush(int fd) {
  return send(fd, 0, 0, MSG_DONTWAIT) < 0 ? -errno : 0;
}

// Status words are shared with the kernel (packet_mmap, "status word").
static inline uint32_t CHosted_status(const void *slot) {
  return __atomic_load_n(&((const struct tpacket2_hdr *)slot)->tp_status, __ATOMIC_ACQUIRE);
}
static inline void CHosted_setStatus(void *slot, uint32_t status) {
  __atomic_store_n(&((struct tpacket2_hdr *)slot)->tp_status, status, __ATOMIC_RELEASE);
}
static inline const struct tpacket2_hdr *CHosted_header(const void *slot) { return slot; }
static inline void CHosted_setLength(void *slot, uint32_t length) {
  ((struct tpacket2_hdr *)slot)->tp_len = length;
}
// Where virtio_net_hdr and frame stand in a slot to send.
static inline uint32_t CHosted_sendOffset(void) { return TPACKET2_HDRLEN - sizeof(struct sockaddr_ll); }

static inline uint64_t CHosted_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// Reads a file whole; -EFBIG where it is longer than `limit`.
static inline long CHosted_read(const char *path, uint8_t *octets, long limit) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  long count = 0;
  for (;;) {
    long part = read(fd, octets + count, (size_t)(limit - count));
    if (part < 0 && errno == EINTR) continue;
    if (part < 0 || count + part == limit) {
      int error = part < 0 ? -errno : -EFBIG;
      close(fd);
      return error;
    }
    if (part == 0) break;
    count += part;
  }
  close(fd);
  return count;
}

// From getrandom(2), which never fails once the kernel has begun.
static inline uint64_t CHosted_random(void) {
  uint64_t value;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {}
  return value;
}

static inline void CHosted_write(const char *text, long count) {
  while (count > 0) {
    long part = write(2, text, (size_t)count);
    if (part <= 0) return;
    text += part;
    count -= part;
  }
}
