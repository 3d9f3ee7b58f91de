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
#include <sys/eventfd.h>
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

// A packet socket that hears of all frames of an interface, promiscuous, with virtio_net_hdr both ways
// and without its own. Sends at once, waiting for room 10 ms at most. It is the first of a group that
// divides the interface's frames among its sockets (packet(7), PACKET_FANOUT_CBPF), and has all of them
// until ``CHosted_divide``.
static inline int CHosted_open(const char *name) {
  unsigned index = if_nametoindex(name);
  if (index == 0) return -errno;
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int one = 1, buffer = 1 << 20;
  int group = (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_UNIQUEID |
               PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
  struct timeval patience = {.tv_usec = 10000};
  struct packet_mreq all = {.mr_ifindex = (int)index, .mr_type = PACKET_MR_PROMISC};
  struct sockaddr_ll address = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)index};
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) == 0 &&
      bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &group, sizeof group) == 0)
    return fd;
  int error = -errno;
  close(fd);
  return error;
}

// Reads a frame, which begins with its virtio_net_hdr; 0 where there is none. What does not fit, or is
// not understood, is passed over. The tag that the kernel took out of it is in `tag` and `type`; a type
// of 0 is none. `isDown` is set where the interface was found to be down, which is told once.
static inline long CHosted_frame(
    int fd, void *octets, long room, uint16_t *tag, uint16_t *type, int *isDown) {
  struct iovec vector = {.iov_base = octets, .iov_len = (size_t)room};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
  } control;
  struct msghdr message;
  long count = 0;
  for (int tries = 0; tries < 64; tries++) {
    message = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control,
                              .msg_controllen = sizeof control};
    count = recvmsg(fd, &message, MSG_DONTWAIT);
    if (count > 0 && !(message.msg_flags & MSG_TRUNC)) break;
    if (count < 0 && errno == EAGAIN) return 0;
    if (count < 0 && errno == ENETDOWN) *isDown = 1;
    count = 0;
  }
  *type = 0;
  if (count == 0) return 0;
  for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_PACKET || each->cmsg_type != PACKET_AUXDATA) continue;
    struct tpacket_auxdata data;
    memcpy(&data, CMSG_DATA(each), sizeof data);
    if (!(data.tp_status & TP_STATUS_VLAN_VALID)) continue;
    *tag = data.tp_vlan_tci;
    *type = data.tp_status & TP_STATUS_VLAN_TPID_VALID ? data.tp_vlan_tpid : ETH_P_8021Q;
  }
  return count;
}

// A ring to receive: blocks that the kernel allots one by one, each with whole slots.
struct CHosted_Ring {
  uint32_t block, blocks, slot;
};

// A packet socket with a ring to receive (TPACKET_V2), of no interface yet, and deaf.
static inline int CHosted_openRing(struct CHosted_Ring ring) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int version = TPACKET_V2, one = 1;
  struct sock_filter nothing = {BPF_RET | BPF_K, 0, 0, 0};
  struct sock_fprog deaf = {.len = 1, .filter = &nothing};
  struct tpacket_req request = {
      .tp_block_size = ring.block,
      .tp_block_nr = ring.blocks,
      .tp_frame_size = ring.slot,
      .tp_frame_nr = ring.block / ring.slot * ring.blocks,
  };
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) == 0 &&
      setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &deaf, sizeof deaf) == 0 &&
      setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0)
    return fd;
  int error = -errno;
  close(fd);
  return error;
}

// A port's two rings while they are opened by a thread: for each the kernel waits 8 to 20 ms until no
// processor looks at its socket (PACKET_RX_RING, a grace period of RCU).
struct CHosted_Rings {
  struct CHosted_Ring layouts[2];
  int fds[2];
  // Written to when they are there, or could not be opened.
  int event;
  int isDone, isThread;
  pthread_t thread;
};

static inline void *CHosted_openBoth(void *argument) {
  struct CHosted_Rings *rings = (struct CHosted_Rings *)argument;
  for (int index = 0; index < 2; index++) rings->fds[index] = CHosted_openRing(rings->layouts[index]);
  __atomic_store_n(&rings->isDone, 1, __ATOMIC_RELEASE);
  uint64_t one = 1;
  if (write(rings->event, &one, sizeof one) < 0) {}
  return 0;
}

// Begins to open rings; without another thread where there can be none. They stay where they are until
// ``CHosted_awaitRings``.
static inline void CHosted_beginRings(struct CHosted_Rings *rings) {
  rings->isThread = pthread_create(&rings->thread, 0, CHosted_openBoth, rings) == 0;
  if (!rings->isThread) CHosted_openBoth(rings);
}

static inline int CHosted_areOpened(struct CHosted_Rings *rings) {
  return __atomic_load_n(&rings->isDone, __ATOMIC_ACQUIRE);
}

static inline void CHosted_awaitRings(struct CHosted_Rings *rings) {
  if (rings->isThread) pthread_join(rings->thread, 0);
  rings->isThread = 0;
}

// A descriptor by which threads wake the loop.
static inline int CHosted_event(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

static inline void CHosted_clear(int event) {
  uint64_t count;
  if (read(event, &count, sizeof count) < 0) {}
}

// Maps a ring.
static inline int CHosted_map(int fd, struct CHosted_Ring ring, void **memory) {
  *memory = mmap(0, (size_t)ring.block * ring.blocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return *memory == MAP_FAILED ? -errno : 0;
}

// Has two rings hear of a port's frames instead of its socket, which keeps what it has heard: packets of
// up to `limit` octets, without their link header, come to the first, all others to the second. Each is
// deaf until it is in the group, so that nothing comes to two of them but what another processor delivers
// in that moment.
static inline int CHosted_divide(int port, const int *rings, uint32_t limit) {
  struct sockaddr_ll address;
  int group;
  socklen_t addressLength = sizeof address, length = sizeof group;
  if (getsockname(port, (struct sockaddr *)&address, &addressLength) != 0 ||
      getsockopt(port, SOL_PACKET, PACKET_FANOUT, &group, &length) != 0)
    return -errno;
  group = (group & 0xffff) | (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
  for (int index = 0; index < 2; index++) {
    int none = 0;
    if (bind(rings[index], (struct sockaddr *)&address, sizeof address) != 0 ||
        setsockopt(rings[index], SOL_PACKET, PACKET_FANOUT, &group, sizeof group) != 0 ||
        setsockopt(rings[index], SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none) != 0)
      return -errno;
  }
  // By the places in the group, in the order of joining.
  struct sock_filter code[] = {
      {BPF_LD | BPF_W | BPF_LEN, 0, 0, 0},
      {BPF_JMP | BPF_JGT | BPF_K, 1, 0, limit},
      {BPF_RET | BPF_K, 0, 0, 1},
      {BPF_RET | BPF_K, 0, 0, 2},
  };
  struct sock_fprog program = {.len = 4, .filter = code};
  return setsockopt(port, SOL_PACKET, PACKET_FANOUT_DATA, &program, sizeof program) == 0 ? 0 : -errno;
}

static inline void CHosted_closeRing(int fd, struct CHosted_Ring ring, void *memory) {
  munmap(memory, (size_t)ring.block * ring.blocks);
  close(fd);
}

static inline int CHosted_isPresent(const char *name) { return if_nametoindex(name) != 0; }

// Takes away a socket's error.
static inline void CHosted_clearError(int fd) {
  int error;
  socklen_t length = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
}

// Whether the interface that a socket is bound to still exists.
static inline int CHosted_isBound(int fd) {
  struct sockaddr_ll address;
  socklen_t length = sizeof address;
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

// To standard error.
static inline void CHosted_tellWithoutRings(int error) {
  dprintf(2, "martlet: a port has no rings, and is slower: %s\n", strerrordesc_np(error));
}

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
