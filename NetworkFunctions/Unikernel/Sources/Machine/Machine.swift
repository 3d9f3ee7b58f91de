import Boot
public import Functions

/// The machine around one function: what the monitor gave, and the loop.
public enum Machine {
  /// Frames of a card that are looked at before the answers to them are shown to it: the first of
  /// those that waited for a boot is answered 5 ms sooner than with 64. Under load 16 frames of
  /// 64 KiB are all that a card has room for.
  private static let budget = 16

  /// Runs a function for ever.
  ///
  /// - Parameter start: where the monitor put `hvm_start_info`.
  public static func run<F: NetworkFunction & ~Copyable>(_ function: consuming F, start: UInt64)
    -> Never
  {
    var function = function
    let devices = findDevices(start)
    var control = controlPort(of: devices)
    let isTranslated = Boot_isTranslated() != 0
    var cards = Cards(
      devices.filter { $0.kind == VirtioDevice.Kind.network }, clock: Clock(),
      isTranslated: isTranslated)
    var channel = ControlChannel()
    var deadline = Instant.max
    var rehearsal = cards.time + patience
    // Where the machine is translated, with 180 µs a tenth less goes through dense traffic.
    var poll = BusyPoll(longest: isTranslated ? 700_000 : 100_000)
    Console.write("martlet: ready\n")
    while true {
      cards.readClock()
      var works = cards.reclaim()
      if cards.receive(into: &function, budget: budget) { works = true }
      if works && !cards.isWaiting || cards.now >= deadline {
        deadline = function.advance(in: &cards)
      }
      if control.hasWork {
        works = true
        control.receive { octet in
          channel.receive(octet, for: &function, in: &cards)
        }
        // A new document may have set an earlier one.
        deadline = 0
      }
      control.send(&channel.output)
      // What only came, as others' ARP does, keeps nobody awake.
      if works, cards.hasSent { poll.found(at: cards.now, until: cards.time) }
      cards.announce()
      if works { continue }
      if channel.mustStop, channel.output.isEmpty { halt("stopped as asked", isFailure: false) }
      guard !poll.lasts(at: cards.now) else {
        // Each pause leaves translated code and takes QEMU's lock, for which the thread that brings
        // the packets waits: a round trip through two ports took 315 us with it, 160 without.
        if !isTranslated { Boot_pause() }
        continue
      }
      if channel.isConfigured {
        rehearsal = .max
      } else if cards.time >= rehearsal {
        rehearsal = .max
        rehearse(function, in: &cards)
        continue
      }
      cards.setInterrupts(true)
      control.setInterrupts(true)
      cards.acknowledgeInterrupts()
      control.device.acknowledgeInterrupt()
      Boot_fence()
      if !cards.hasWork, !control.hasWork {
        let next = min(deadline, rehearsal)
        if next != .max { cards.setAlarm(next) }
        Boot_sleep()
      }
      cards.setInterrupts(false)
    }
  }

  /// Prepares the heap; before anything that allocates.
  ///
  /// - Parameter start: as ``run(_:start:)``'s.
  public static func prepare(start: UInt64) {
    guard Boot_load32(start) == 0x336e_c578 else { halt("this is no PVH start") }
    // The memory that holds the image ends where the heap ends.
    let image = Boot_imageEnd()
    let map = load64(start + 40)
    var end: UInt64 = 0
    for entry in 0..<UInt64(Boot_load32(start + 48)) {
      let place = map + entry * 24
      let first = load64(place)
      let last = first + load64(place + 8)
      if Boot_load32(place + 16) == 1, first <= image, image < last { end = last }
    }
    guard end > image else { halt("the memory map does not have the image") }
    Heap.begin(at: image, end: min(end, 1 << 30))
  }

  /// The first console.
  static func controlPort(of devices: [VirtioDevice]) -> ControlPort {
    for device in devices where device.kind == VirtioDevice.Kind.console {
      return ControlPort(device)
    }
    halt("there is no control channel")
  }

  /// The devices of `virtio_mmio.device=SIZE@ADDRESS:INTERRUPT`, which QEMU's microvm appends to the
  /// command line; those that were named last come first.
  static func findDevices(_ start: UInt64) -> [VirtioDevice] {
    let commandLine = load64(start + 24)
    var devices: [VirtioDevice] = []
    guard commandLine != 0 else { return devices }
    var place = commandLine
    while Boot_load8(place) != 0 {
      guard Boot_load8(place) == 0x40 else {
        place += 1
        continue
      }
      place += 1
      var address: UInt64 = 0
      if Boot_load8(place) == 0x30, Boot_load8(place + 1) == 0x78 { place += 2 }
      while let digit = hexadecimal(Boot_load8(place)) {
        address = address << 4 | digit
        place += 1
      }
      guard Boot_load8(place) == 0x3a else { continue }
      place += 1
      var interrupt: UInt32 = 0
      while case 0x30...0x39 = Boot_load8(place) {
        interrupt = interrupt * 10 + UInt32(Boot_load8(place) - 0x30)
        place += 1
      }
      guard address >= 0xfe80_0000, address < 1 << 32 else { continue }
      let device = VirtioDevice(address: address, interrupt: interrupt)
      if device.isPresent { devices.insert(device, at: 0) }
    }
    return devices
  }

  private static func hexadecimal(_ octet: UInt8) -> UInt64? {
    switch octet {
    case 0x30...0x39: UInt64(octet - 0x30)
    case 0x61...0x66: UInt64(octet - 0x57)
    default: nil
    }
  }

  private static func load64(_ address: UInt64) -> UInt64 {
    UInt64(Boot_load32(address)) | UInt64(Boot_load32(address + 4)) << 32
  }
}
