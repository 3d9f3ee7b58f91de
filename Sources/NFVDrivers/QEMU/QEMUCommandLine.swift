import NFVModel

/// QEMU's arguments for one machine, from what is asked: a pure function. Everything that QEMU uses
/// of the host is a descriptor; nothing secret stands here.
struct QEMUCommandLine: Sendable, Hashable {
  /// The numbers of the descriptors that QEMU gets.
  enum Descriptor {
    static let kernel: Int32 = 10
    static let initramfs: Int32 = 11
    static let log: Int32 = 12
    static let qmp: Int32 = 13
    static let console: Int32 = 14
    static let control: Int32 = 15
    static let firmware: Int32 = 16
    static func tap(_ index: Int) -> Int32 { 32 + Int32(index) }
    static func vhost(_ index: Int) -> Int32 { 96 + Int32(index) }
    static func volume(_ index: Int) -> Int32 { 160 + Int32(index) }
  }

  struct Network: Sendable, Hashable {
    var mac: MACAddress
    var mtu: Int
    /// The kernel moves its packets (vhost-net), not QEMU.
    var usesVhost: Bool
  }

  var board: MachineImage.Board
  var accelerator: Accelerator
  var memoryMiB: Int
  var processors: Int
  /// A kernel of our own without initramfs, whose console is the debug console and whose control
  /// channel is a virtio console.
  var isUnikernel = false
  var commandLine: String
  var networks: [Network]
  /// How many block devices there are.
  var volumes = 0

  /// Whether QEMU gets ``Firmware``.
  var hasFirmware: Bool { isUnikernel && board == .microvm }

  /// What a board has room for, volumes included.
  static func maximumPorts(of board: MachineImage.Board) -> Int { board == .microvm ? 6 : 24 }

  var arguments: [String] {
    var arguments = [
      "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
      "-machine", machine, "-accel", acceleration, "-cpu", processor,
      "-m", "\(memoryMiB)", "-smp", "\(processors)",
      "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
      "-kernel", path(Descriptor.kernel), "-append", kernelCommandLine,
      "-add-fd", "fd=\(Descriptor.log),set=1",
      "-chardev", socket("qmp", Descriptor.qmp), "-mon", "chardev=qmp,mode=control",
      "-chardev",
      socket("console", Descriptor.console) + ",logfile=/dev/fdset/1,logappend=on",
      "-chardev", socket("control", Descriptor.control),
      // A guest ends by it, with a status of its own.
      "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
    ]
    arguments += isUnikernel ? unikernelDevices : linuxDevices
    for (index, network) in networks.enumerated() {
      var backend = "tap,id=net\(index),fd=\(Descriptor.tap(index))"
      if network.usesVhost { backend += ",vhost=on,vhostfd=\(Descriptor.vhost(index))" }
      var card = device("virtio-net")
      card += ",netdev=net\(index),mac=\(network.mac)"
      // A unikernel has it of its document, as it may have waited for it.
      if !isUnikernel { card += ",host_mtu=\(network.mtu)" }
      if board != .microvm { card += ",romfile=" }
      // Our unikernels notify twice, and the second time it is sent at once, by the thread that translates:
      // a ping flood's round trip through one takes 50 us instead of 69. For those that do so once it is as
      // without: another thread sends, without the 150 us for which it would wait by itself.
      if isUnikernel, !network.usesVhost, case .tcg = accelerator {
        card += ",tx=timer,x-txtimer=1"
      }
      arguments += ["-netdev", backend, "-device", card]
    }
    for index in 0..<volumes {
      // Set 1 is the log's. A full disk of the host's is the guest's error, not its standstill.
      arguments += [
        "-add-fd", "fd=\(Descriptor.volume(index)),set=\(index + 2)",
        "-blockdev", "driver=file,node-name=file\(index),filename=/dev/fdset/\(index + 2)",
        "-blockdev", "driver=raw,node-name=volume\(index),file=file\(index)",
        "-device",
        device("virtio-blk") + ",drive=volume\(index),werror=report,rerror=report",
      ]
    }
    return arguments
  }

  private var linuxDevices: [String] {
    [
      "-initrd", path(Descriptor.initramfs), "-serial", "chardev:console",
      "-device", device("virtio-serial"),
      "-device", "virtserialport,chardev=control,name=org.martlet.control",
    ]
  }

  private var unikernelDevices: [String] {
    (hasFirmware ? ["-bios", path(Descriptor.firmware)] : []) + [
      // Not from the heap's huge pages: of few MiB the guest touches less than half.
      "-object", "memory-backend-memfd,id=memory,size=\(memoryMiB)M",
      "-global", "virtio-mmio.force-legacy=off",
      "-device", "isa-debugcon,iobase=0xe9,chardev=console",
      // With one port it is a console without any talk about ports.
      "-device", device("virtio-serial") + ",max_ports=1",
      "-device", "virtconsole,chardev=control",
    ]
  }

  private var machine: String {
    let name =
      switch board {
      case .pc, .q35: "\(board.rawValue),usb=off,vmport=off"
      case .microvm: "microvm,acpi=off"
      }
    guard isUnikernel else { return name }
    let fewer = ",pit=off,pic=off,rtc=off,isa-serial=off,x-option-roms=off"
    return name + (board == .microvm ? fewer : "") + ",memory-backend=memory"
  }

  /// What translated code takes at most, in MiB; beyond it is thrown away and made again. A pipeline of
  /// functions needs 2.6; of so little only what is written is taken of the host.
  static func translationMiB(isUnikernel: Bool) -> Int { isUnikernel ? 4 : 64 }

  private var translationMiB: Int { Self.translationMiB(isUnikernel: isUnikernel) }

  /// What QEMU itself takes beside its guest's memory, in bytes.
  var overhead: UInt64 { accelerator.overhead(translationMiB: translationMiB) }

  private var processor: String {
    switch accelerator {
    case .kvm: "host"
    // A guest told of fast `rep movsb` copies by it, which QEMU translates octet by octet; its
    // throughput is then a third. Each access to a program's memory between the two instructions of
    // SMAP leaves translated code twice.
    case .tcg: "max,erms=off,smap=off,la57=off"
    }
  }

  /// What Linux is told. Under TCG, without what costs much there and guards a kernel against the
  /// programs that it runs, of which it has one: pages that are wiped as they are given out,
  /// checks of copies, random stacks, accounts of pressure; copies by loops, as each turn of
  /// `rep movsq` is a jump (13 % of the time of a stream of TCP, 5 % by loops); and no interrupt
  /// for each frame that was sent. A fifth to two fifths more throughput together.
  private var kernelCommandLine: String {
    guard !isUnikernel, case .tcg = accelerator else { return commandLine }
    return commandLine + " init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off psi=0"
      + " clearcpuid=rep_good virtio_net.napi_tx=0"
  }

  private var acceleration: String {
    switch accelerator {
    case .kvm: "kvm"
    case .tcg: "tcg,thread=multi,tb-size=\(translationMiB)"
    }
  }

  private func path(_ descriptor: Int32) -> String { "/proc/self/fd/\(descriptor)" }

  private func socket(_ id: String, _ descriptor: Int32) -> String {
    "socket,id=\(id),fd=\(descriptor),server=on,wait=off"
  }

  private func device(_ name: String) -> String {
    board == .microvm ? "\(name)-device" : "\(name)-pci"
  }
}
