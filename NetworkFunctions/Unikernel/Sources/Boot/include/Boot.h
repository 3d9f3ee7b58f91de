// What is an instruction and not an expression: ports, interrupts, time stamp, order of accesses.
#pragma once
#include <stdint.h>

static inline void Boot_out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t Boot_timeStamp(void) {
  uint32_t low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

// Whether the processor has RDRAND (CPUID leaf 1, ECX bit 30).
static inline int Boot_hasRandom(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return c >> 30 & 1;
}

// False where the processor has none for now.
static inline int Boot_random(uint64_t *value) {
  uint8_t carry;
  __asm__ volatile("rdrand %0; setc %1" : "=r"(*value), "=qm"(carry) : : "cc");
  return carry;
}

// Whether QEMU translates what runs here: "TCGT" of its CPUID leaf.
static inline int Boot_isTranslated(void) {
  uint32_t a = 0x40000000, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b == 0x54474354;
}

// Halts until an interrupt, which cannot come before the halt.
static inline void Boot_sleep(void) { __asm__ volatile("sti; hlt; cli" : : : "memory"); }

// Ends the machine where it has QEMU's debug exit: 1 is exit status 0, 101 an abort.
static inline void Boot_stop(uint8_t status) {
  Boot_out8(0xf4, status);
  for (;;) __asm__ volatile("cli; hlt");
}

static inline void Boot_pause(void) { __asm__ volatile("pause" : : : "memory"); }

// x86 keeps loads among loads and stores among stores; only the compiler is told.
static inline void Boot_order(void) { __asm__ volatile("" : : : "memory"); }

// A store before a load of another place.
static inline void Boot_fence(void) { __asm__ volatile("mfence" : : : "memory"); }

static inline uint32_t Boot_load32(uint64_t address) {
  return *(volatile uint32_t *)address;
}

static inline void Boot_store32(uint64_t address, uint32_t value) {
  *(volatile uint32_t *)address = value;
}

static inline uint16_t Boot_load16(uint64_t address) {
  return *(volatile uint16_t *)address;
}

static inline uint8_t Boot_load8(uint64_t address) {
  return *(volatile uint8_t *)address;
}

static inline void Boot_store16(uint64_t address, uint16_t value) {
  *(volatile uint16_t *)address = value;
}

static inline void Boot_call(uint64_t address) { ((void (*)(void))address)(); }

// The first octet after the image.
extern char __image_end[];
static inline uint64_t Boot_imageEnd(void) { return (uint64_t)__image_end; }
