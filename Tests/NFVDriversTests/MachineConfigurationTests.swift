import ControlProtocol
import NFVModel
import TestSupport
import Testing

@testable import NFVDrivers

@Suite struct MachineConfigurationTests {
  private func commandLine(
    _ board: MachineImage.Board, _ accelerator: Accelerator, vhost: Bool = false
  ) -> [String] {
    QEMUCommandLine(
      board: board, accelerator: accelerator, memoryMiB: 96, processors: 2,
      commandLine: "console=ttyS0",
      networks: [.init(mac: MACAddress(value: 0x02_00_00_00_00_01), mtu: 1400, usesVhost: vhost)]
    ).arguments
  }

  @Test("QEMU's arguments name nothing of the host but descriptors")
  func arguments() {
    #expect(
      commandLine(.pc, .tcg) == [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", "pc,usb=off,vmport=off", "-accel", "tcg,thread=multi,tb-size=64", "-cpu",
        "max,erms=off,smap=off,la57=off", "-m", "96", "-smp", "2",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-kernel", "/proc/self/fd/10", "-append",
        "console=ttyS0 init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off psi=0"
          + " clearcpuid=rep_good virtio_net.napi_tx=0",
        "-add-fd", "fd=12,set=1",
        "-chardev", "socket,id=qmp,fd=13,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=console,fd=14,server=on,wait=off,logfile=/dev/fdset/1,logappend=on",
        "-chardev", "socket,id=control,fd=15,server=on,wait=off",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-initrd", "/proc/self/fd/11", "-serial", "chardev:console",
        "-device", "virtio-serial-pci",
        "-device", "virtserialport,chardev=control,name=org.martlet.control",
        "-netdev", "tap,id=net0,fd=32",
        "-device",
        "virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,host_mtu=1400,romfile=",
      ])
  }

  @Test("A unikernel's machine has what it uses and nothing else")
  func unikernel() {
    #expect(
      QEMUCommandLine(
        board: .microvm, accelerator: .tcg, memoryMiB: 4, processors: 1, isUnikernel: true,
        commandLine: "",
        networks: [.init(mac: MACAddress(value: 0x02_00_00_00_00_01), mtu: 1400, usesVhost: false)]
      ).arguments == [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine",
        "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off,x-option-roms=off,"
          + "memory-backend=memory",
        "-accel", "tcg,thread=multi,tb-size=4", "-cpu", "max,erms=off,smap=off,la57=off", "-m", "4",
        "-smp", "1",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-kernel", "/proc/self/fd/10", "-append", "",
        "-add-fd", "fd=12,set=1",
        "-chardev", "socket,id=qmp,fd=13,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-chardev",
        "socket,id=console,fd=14,server=on,wait=off,logfile=/dev/fdset/1,logappend=on",
        "-chardev", "socket,id=control,fd=15,server=on,wait=off",
        "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04",
        "-bios", "/proc/self/fd/16", "-object", "memory-backend-memfd,id=memory,size=4M",
        "-global", "virtio-mmio.force-legacy=off",
        "-device", "isa-debugcon,iobase=0xe9,chardev=console",
        "-device", "virtio-serial-device,max_ports=1", "-device", "virtconsole,chardev=control",
        "-netdev", "tap,id=net0,fd=32",
        "-device",
        "virtio-net-device,netdev=net0,mac=02:00:00:00:00:01,tx=timer,x-txtimer=1",
      ])
  }

  @Test(
    "A unikernel's firmware fills what QEMU maps, and the processor's first instruction leads in")
  func firmware() {
    let image = Firmware.image
    #expect(image.count == Firmware.size && Firmware.size % 65_536 == 0)
    // A near jump by 16 bits at 0xfffffff0, to the first octet that is not zero.
    let reset = image.count - 16
    #expect(image[reset] == 0xe9)
    let distance = Int16(bitPattern: UInt16(image[reset + 1]) | UInt16(image[reset + 2]) << 8)
    #expect(reset + 3 + Int(distance) == image.firstIndex { $0 != 0 })
  }

  @Test("Boards and accelerators differ where they must")
  func boards() {
    let microvm = commandLine(.microvm, .kvm, vhost: true)
    #expect(microvm.contains("microvm,acpi=off") && microvm.contains("virtio-serial-device"))
    #expect(microvm.contains("tap,id=net0,fd=32,vhost=on,vhostfd=96"))
    #expect(
      microvm.contains("virtio-net-device,netdev=net0,mac=02:00:00:00:00:01,host_mtu=1400"))
    #expect(
      microvm.contains("kvm") && microvm.contains("host") && microvm.contains("console=ttyS0"))
    #expect(commandLine(.q35, .tcg).contains("q35,usb=off,vmport=off"))
  }

  @Test("An archive in cpio's newc form, to the octet")
  func cpio() {
    var archive = CpioArchive()
    archive.addFolder("d")
    archive.addFile("d/f", mode: 0o640, Array("hello".utf8))
    func header(_ fields: String...) -> String { "070701" + fields.joined() }
    let zero = "00000000"
    let expected =
      // Inode, mode, user, group, links, time, size, device, special device, name's length, sum.
      header(
        "00000001", "000041ED", zero, zero, "00000001", zero, zero, zero, zero, zero, zero,
        "00000002", zero) + "d\0"
      + header(
        "00000002", "000081A0", zero, zero, "00000001", zero, "00000005", zero, zero, zero, zero,
        "00000004", zero) + "d/f\0\0\0" + "hello\0\0\0"
      + header(
        zero, zero, zero, zero, "00000001", zero, zero, zero, zero, zero, zero, "0000000B", zero)
      + "TRAILER!!!\0\0\0\0"
    #expect(String(decoding: archive.finished(), as: UTF8.self) == expected)
    #expect(archive.finished().count % 4 == 0)
  }

  @Test(
    "A guest is told its command, surroundings, files and ports; too much is refused",
    .needs(.root, .qemu))
  func documents() async throws {
    try await withMachines { fixture in
      let port = Port(
        id: "p", cpd: "left", externalCpd: nil, network: "n",
        mac: MACAddress(value: 0x02_00_00_00_00_01),
        addresses: [try #require(IPPrefix("10.0.0.2/24"))], mode: .host, mtu: 1400,
        interface: "eth0",
        routes: [
          .init(
            destination: try #require(IPPrefix("0.0.0.0/0")),
            via: try #require(IPAddress("10.0.0.1")))
        ])
      let image = try MachineImage(
        try fixture.image(TinyKernel.saysHi) {
          $0 = $0.replacing(#""entrypoint":[]"#, with: #""entrypoint":["/bin/f"]"#)
            .replacing(#""environment":[]"#, with: #""environment":["A=1"]"#)
        })
      var specification = fixture.specification(
        "vm", try fixture.image(TinyKernel.saysHi), ports: [port])
      specification.environment = ["B=2"]
      specification.forwards = true
      specification.files = [.init(path: "/etc/f", content: Array("text".utf8), mode: 0o100644)]
      let text = String(
        decoding: try GuestDocuments(specification: specification, image: image).archive(),
        as: UTF8.self)
      #expect(text.contains("martlet/config.json\0") && text.contains(#"{"generation":1}"#))
      #expect(text.contains("martlet/files/0\0") && text.contains("text070701"))
      let start = GuestStart(
        command: ["/bin/f"], environment: ["A=1", "B=2"], workingDirectory: "/", hostName: "vm",
        forwards: true, files: [.init(path: "/etc/f", mode: 0o644)],
        ports: [
          .init(
            name: "eth0", mac: [2, 0, 0, 0, 0, 1], mtu: 1400,
            addresses: [.init(octets: [10, 0, 0, 2], length: 24)],
            routes: [
              .init(destination: .init(octets: [0, 0, 0, 0], length: 0), via: [10, 0, 0, 1])
            ])
        ])
      let archive = try GuestDocuments(specification: specification, image: image).archive()
      #expect(archive.firstRange(of: try start.encoded()) != nil)
      // The kernel beside a function that owns its addresses is told of none.
      specification.addressOwner = .function
      var bare = start
      bare.forwards = false
      bare.ports = [.init(name: "eth0", mac: [2, 0, 0, 0, 0, 1], mtu: 1400)]
      let owned = try GuestDocuments(specification: specification, image: image).archive()
      #expect(owned.firstRange(of: try bare.encoded()) != nil)
      specification.document = [UInt8](repeating: 32, count: ControlProtocol.maximumDocument + 1)
      let error = await #expect(throws: NFVError.self) {
        _ = try await fixture.driver.prepare(specification)
      }
      #expect(error?.code == .tooLarge)
    }
  }
}
