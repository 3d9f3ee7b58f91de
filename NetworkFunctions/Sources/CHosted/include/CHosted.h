// What the hosted form calls of Linux: Embedded Swift has no Glibc module, and the macros of
// packet(7) are not seen by Swift. Each only wraps its calls; negative results are -errno.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// Of Linux 6.2; before that a group hears what goes out through the queues of its interface, where
// nothing of a function's goes.
#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

// MARK: Ports

// A ring to receive: blocks that the kernel allots one by one, each with whole slots.
struct CHosted_Ring {
  uint32_t block, blocks, slot;
};

// A packet socket with a ring to receive, of no interface yet; frames with virtio_net_hdr both ways,
// without its own. Sends at once, waiting for room 10 ms at most.
static inline int CHosted_openRing(struct CHosted_Ring ring) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int version = TPACKET_V2, one = 1, buffer = 1 << 20;
  struct timeval patience = {.tv_usec = 10000};
  struct tpacket_req request = {
      .tp_block_size = ring.block,
      .tp_block_nr = ring.blocks,
      .tp_frame_size = ring.slot,
      .tp_frame_nr = ring.block / ring.slot * ring.blocks,
  };
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0)
    return fd;
  int error = -errno;
  close(fd);
  return error;
}

// A ring that is asked for, then its socket.
struct CHosted_Opening {
  struct CHosted_Ring ring;
  int fd;
};

static inline void *CHosted_openOne(void *opening) {
  struct CHosted_Opening *asked = (struct CHosted_Opening *)opening;
  asked->fd = CHosted_openRing(asked->ring);
  return 0;
}

// Opens rings at once, each by a thread: for every one the kernel waits 8 to 20 ms until no processor
// looks at its socket (PACKET_RX_RING, a grace period of RCU), and these waits need not follow one
// another.
static inline void CHosted_openRings(struct CHosted_Opening *openings, int count) {
  pthread_t threads[16];
  int started = 0;
  while (started < count && started < 16 &&
         pthread_create(&threads[started], 0, CHosted_openOne, &openings[started]) == 0)
    started++;
  for (int rest = started; rest < count; rest++) CHosted_openOne(&openings[rest]);
  for (int index = 0; index < started; index++) pthread_join(threads[index], 0);
}

// Has a socket with a ring hear of all frames of an interface, promiscuous, and maps the ring.
static inline int CHosted_bindRing(
    int fd, const char *name, struct CHosted_Ring ring, void **memory) {
  unsigned index = if_nametoindex(name);
  if (index == 0) return -errno;
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
  struct packet_mreq all = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
  if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) != 0 ||
      bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
    return -errno;
  *memory = mmap(0, (size_t)ring.block * ring.blocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return *memory == MAP_FAILED ? -errno : 0;
}

// Gives packets of up to `limit` octets, without their link header, to the first of two sockets of one
// interface, and all others to the second (packet(7), PACKET_FANOUT_CBPF).
static inline int CHosted_divide(int first, int second, uint32_t limit) {
  int group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID |
               PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
  struct sock_filter code[] = {
      {BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
      {BPF_JMP | BPF_JGT | BPF_K, 1, 0, limit},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 1},
  };
  struct sock_fprog program = {.len = 4, .filter = code};
  if (setsockopt(first, SOL_PACKET, PACKET_FANOUT, &group, sizeof group) != 0) return -errno;
  socklen_t length = sizeof group;
  if (getsockopt(first, SOL_PACKET, PACKET_FANOUT, &group, &length) != 0 ||
      setsockopt(first, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program) != 0)
    return -errno;
  group = (group & 0xffff) | (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
  return setsockopt(second, SOL_PACKET, PACKET_FANOUT, &group, sizeof group) == 0 ? 0 : -errno;
}

static inline void CHosted_closeRing(int fd, struct CHosted_Ring ring, void *memory) {
  munmap(memory, (size_t)ring.block * ring.blocks);
  close(fd);
}

static inline int CHosted_isPresent(const char *name) { return if_nametoindex(name) != 0; }

// Whether the interface that a socket is bound to still exists; takes away the socket's error.
static inline int CHosted_isBound(int fd) {
  int error;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  struct sockaddr_ll address;
  length = sizeof address;
  char name[IF_NAMESIZE];
  return getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
         if_indextoname((unsigned)address.sll_ifindex, name) != 0;
}

static inline int CHosted_send(int fd, struct mmsghdr *messages, unsigned count) {
  int sent = sendmmsg(fd, messages, count, 0);
  return sent < 0 ? -errno : sent;
}

// Status words are shared with the kernel (packet_mmap, "status word").
static inline uint32_t CHosted_status(const void *slot) {
  return __atomic_load_n(&((const struct tpacket2_hdr *)slot)->tp_status, __ATOMIC_ACQUIRE);
}
static inline void CHosted_release(void *slot) {
  __atomic_store_n(&((struct tpacket2_hdr *)slot)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}
// Whether what is in the first slot came no later than what is in the second.
static inline int CHosted_isBefore(const void *first, const void *second) {
  const struct tpacket2_hdr *a = first, *b = second;
  return a->tp_sec != b->tp_sec ? (int32_t)(a->tp_sec - b->tp_sec) < 0 : a->tp_nsec <= b->tp_nsec;
}
static inline const struct tpacket2_hdr *CHosted_header(const void *slot) { return slot; }

// MARK: Time, chance, waiting

static inline uint64_t CHosted_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

// From getrandom(2), which never fails once the kernel has begun.
static inline uint64_t CHosted_random(void) {
  uint64_t value;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {}
  return value;
}

static inline void CHosted_ignore(int number) { (void)number; }

// SIGTERM, SIGINT and SIGHUP as a descriptor. They have a handler besides: who looks from outside
// sees that they are caught, and the first process of a container gets them.
static inline int CHosted_signals(void) {
  struct sigaction action = {.sa_handler = CHosted_ignore};
  sigset_t set;
  sigemptyset(&set);
  const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
  for (int index = 0; index < 3; index++) {
    sigaddset(&set, numbers[index]);
    sigaction(numbers[index], &action, 0);
  }
  signal(SIGPIPE, SIG_IGN);
  sigprocmask(SIG_BLOCK, &set, 0);
  int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

// The next signal that came; 0 where none did.
static inline int CHosted_nextSignal(int fd) {
  struct signalfd_siginfo info;
  return read(fd, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

// Lets others that want this processor have it first.
static inline void CHosted_yield(void) { sched_yield(); }

// MARK: Files and the control channel

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

// To standard output.
static inline void CHosted_output(const uint8_t *octets, long count) {
  while (count > 0) {
    long part = write(1, octets, (size_t)count);
    if (part <= 0) return;
    octets += part;
    count -= part;
  }
}

static inline void CHosted_outputNumber(uint64_t number) { dprintf(1, "%lu\n", number); }

static inline void CHosted_write(const char *text, long count) {
  while (count > 0) {
    long part = write(2, text, (size_t)count);
    if (part <= 0) return;
    text += part;
    count -= part;
  }
}

// A unix socket that listens, for its owner only; one that is there already is replaced.
static inline int CHosted_listen(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  struct stat old;
  if (lstat(path, &old) == 0 && S_ISSOCK(old.st_mode)) unlink(path);
  mode_t mask = umask(0177);
  int failed = bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4);
  int error = -errno;
  umask(mask);
  if (!failed) return fd;
  close(fd);
  return error;
}

static inline int CHosted_accept(int fd) {
  int client = accept4(fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return client < 0 ? -errno : client;
}

// 0 is the end.
static inline long CHosted_receive(int fd, uint8_t *octets, long count) {
  long part = recv(fd, octets, (size_t)count, 0);
  return part < 0 ? -errno : part;
}

static inline long CHosted_put(int fd, const uint8_t *octets, long count) {
  long part = send(fd, octets, (size_t)count, MSG_NOSIGNAL);
  return part < 0 ? -errno : part;
}
