import Glibc
import HoldProtocol
import LinuxSystem
import NFVModel
import SystemPackage
import TestSupport
import Testing

@testable import NFVDrivers
@testable import NFVImages

extension Facility {
  static func kernelOctets() throws -> [UInt8] { try KernelPackage.standard().kernel() }
}

/// Programs in QEMU's place, which serve its sockets as it would, and then not.
enum StubQEMU {
  private static func program(control: String, afterGreeting: String) -> String {
    """
    #!/usr/bin/perl
    exit 0 if $ARGV[0] eq '--version';
    open(my $qmp, '+<&=\(QEMUCommandLine.Descriptor.qmp)') or die;
    open(my $control, '+<&=\(QEMUCommandLine.Descriptor.control)') or die;
    if (fork() == 0) {
      while (accept(my $guest, $control)) { sysread($guest, my $x, 9); \(control) }
      exit;
    }
    while (accept(my $client, $qmp)) {
      syswrite($client, qq({"QMP":{"version":{},"capabilities":[]}}\\r\\n));
      while (<$client>) {
        next unless /"id":(\\d+)/;
        syswrite($client, qq({"return":{},"id":$1}\\r\\n));
        \(afterGreeting);
      }
    }
    """
  }

  static let hangs = program(control: "sleep 100", afterGreeting: "sleep 100")
  /// Its guest has no init that could be asked, and goes off by its power button.
  static let powersDown = program(
    control: "1",
    afterGreeting: #"""
      if (/system_powerdown/) {
        print STDERR "pressed\n";
        syswrite($client, qq({"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"},)
          . qq("timestamp":{"seconds":1,"microseconds":0}}\r\n));
        exit 0;
      }
      """#)
  static let talksNonsense = program(
    control: #"syswrite($guest, "\xFF" x 64); sleep 100"#, afterGreeting: "1")
}

/// A driver of machines.
final class MachineFixture: DriverFixture {
  let host: HostFixture
  let driver: QEMUDriver
  let configuration: QEMUDriver.Configuration

  private static let probed = AcceleratorProbe.subject(Facility.qemuPath)

  init(
    program: String? = nil, answerLimit: Duration = .seconds(15),
    startLimit: Duration = .seconds(90), unikernelLimit: Duration = .seconds(15),
    watchInterval: Duration = .seconds(15), poolSize: Int = 0, hostMemory: UInt64? = nil
  ) async throws {
    host = try await HostFixture()
    var qemu = Facility.qemuPath
    if let program {
      qemu = host.folder + "/qemu"
      try replaceFile(qemu, Array(program.utf8), mode: 0o755)
    }
    configuration = QEMUDriver.Configuration(
      store: host.store, runFolder: host.runFolder, logFolder: host.logFolder,
      volumeFolder: host.folder + "/volumes", program: qemu,
      answerLimit: answerLimit, watchInterval: watchInterval, startLimit: startLimit,
      unikernelLimit: unikernelLimit, poolSize: poolSize, logBytes: 128 << 10,
      hostMemory: hostMemory)
    // As the probe left it, which has tests of its own.
    let probed = program == nil ? Self.probed : AcceleratorProbe.subject(qemu)
    AcceleratorProbe.keep(.tcg, of: probed, in: host.runFolder + "/accelerator")
    driver = try QEMUDriver(configuration, hold: host.hold)
  }

  /// An image of a kernel of the tests' own, said to serve the control channel or not.
  func image(
    _ code: [UInt8], board: String = "microvm", isControlled: Bool = false,
    change: (inout String) -> Void = { _ in }
  ) throws -> PreparedImage {
    var description = """
      {"format":"martlet-machine","version":1,"technology":"tinyx","architecture":"x86_64",
      "machine":"\(board)","commandLine":"","minimumMemoryMiB":16,"entrypoint":[],"environment":[],
      "workingDirectory":"/","control":\(isControlled),"later":1}
      """
    change(&description)
    let name = HostName.derived(from: "\(code)\(description)")
    let root = "\(folder)/image-\(name)"
    try Mount.makeDirectory(root, mode: 0o700)
    try replaceFile(root + "/machine.json", Array(description.utf8), mode: 0o600)
    try replaceFile(root + "/kernel", PVHImage.octets(of: code), mode: 0o644)
    if isControlled { try replaceFile(root + "/initramfs", [1, 2, 3], mode: 0o644) }
    return PreparedImage(
      digest: "sha256:test", root: root, configuration: ImageConfiguration(), size: 0)
  }

  /// A unikernel's image: of the function that `make functions` builds, or of a kernel of the tests'.
  func unikernel(
    _ code: [UInt8]? = nil, isControlled: Bool = true,
    image digest: ImageDigest = "sha256:unikernel"
  ) throws -> PreparedImage {
    var image = try image(code ?? [], isControlled: isControlled) {
      $0 = $0.replacing("tinyx", with: "unikernel").replacing(":16,", with: ":4,")
    }
    if code == nil {
      try replaceFile(
        image.root + "/kernel", try readFile(Facility.unikernelPath, limit: 1 << 20), mode: 0o644)
    }
    image.digest = digest
    return image
  }

  func specification(
    _ name: String, _ image: PreparedImage, technology: Technology = .tinyx, incarnation: Int = 1,
    memory: UInt64 = 16 << 20, volumes: [WorkloadSpecification.Volume] = [], ports: [Port] = []
  ) -> WorkloadSpecification {
    WorkloadSpecification(
      id: WorkloadID(
        store: store, tenant: .default, vnfc: VnfcID(name), incarnation: incarnation),
      technology: technology, hostName: name, image: image, memoryBytes: memory,
      writableLayerBytes: 0, document: Array(#"{"generation":1}"#.utf8), volumes: volumes,
      ports: ports)
  }

  func output(of id: WorkloadID) async throws -> String {
    let log = try await driver.log(of: id, from: 0, limit: 1 << 20)
    return String(decoding: log.bytes, as: UTF8.self)
  }

  /// The driver of a daemon that comes after this one.
  func successor() async throws -> (driver: QEMUDriver, hold: HoldClient) {
    let hold = try await host.connect()
    return (try QEMUDriver(configuration, hold: hold), hold)
  }

  /// Why a workload does not start; nothing of it is left.
  func failure(of specification: WorkloadSpecification) async throws -> NFVError {
    do throws(NFVError) {
      _ = try await driver.prepare(specification)
      try await driver.start(specification)
    } catch {
      try await driver.delete(specification.id)
      #expect(try await leftovers() == [])
      return error
    }
    throw NFVError(.failed, "the start did not fail")
  }

  /// What is left on the host of this fixture's workloads.
  func leftovers() async throws -> [String] {
    try await host.leftovers(in: ["run/workloads", "log"])
  }

  func end() async throws {
    // The probe keeps its result in the run folder.
    try await host.end(driver) { _ = await driver.probe.value }
  }
}

/// Gives `body` a fixture that ends with it, whatever happens.
func withMachines(
  program: String? = nil, answerLimit: Duration = .seconds(15),
  startLimit: Duration = .seconds(90), unikernelLimit: Duration = .seconds(15),
  watchInterval: Duration = .seconds(15), poolSize: Int = 0, hostMemory: UInt64? = nil,
  _ body: (MachineFixture) async throws -> Void
) async throws {
  try await MachineFixture(
    program: program, answerLimit: answerLimit, startLimit: startLimit,
    unikernelLimit: unikernelLimit, watchInterval: watchInterval, poolSize: poolSize,
    hostMemory: hostMemory
  ).use(body)
}

/// Kernels of a few instructions, entered in 32-bit protected mode.
enum TinyKernel {
  // mov $4, %al; mov $0xf4, %dx; out %al, %dx: the exit status 3.
  static let exitsWith3: [UInt8] = [0xB0, 4, 0x66, 0xBA, 0xF4, 0, 0xEE, 0xF4, 0xEB, 0xFD]
  // mov $0x3f8, %dx; mov $'h', %al; out; mov $'i', %al; out; mov $10, %al; out; cli; hlt.
  static let saysHi: [UInt8] = [
    0x66, 0xBA, 0xF8, 0x03, 0xB0, 0x68, 0xEE, 0xB0, 0x69, 0xEE, 0xB0, 10, 0xEE, 0xFA, 0xF4, 0xEB,
    0xFC,
  ]
  // mov $0x3fd, %dx; in; test $1, %al; jz back to the in; mov $0x3f8, %dx; in; out; jmp to the first.
  static let echoes: [UInt8] = [
    0x66, 0xBA, 0xFD, 0x03, 0xEC, 0xA8, 1, 0x74, 0xFB, 0x66, 0xBA, 0xF8, 0x03, 0xEC, 0xEE, 0xEB,
    0xEF,
  ]
  // mov $'h', %al; out %al, $0xe9; mov $'i', %al; out; cli; hlt.
  static let saysHiAndHangs: [UInt8] = [
    0xB0, 0x68, 0xE6, 0xE9, 0xB0, 0x69, 0xE6, 0xE9, 0xFA, 0xF4, 0xEB, 0xFC,
  ]
  // mov $'n', %al; out %al, $0xe9; mov $'o', %al; out; ud2, without any gate for it.
  static let saysNoAndTraps: [UInt8] = [0xB0, 0x6E, 0xE6, 0xE9, 0xB0, 0x6F, 0xE6, 0xE9, 0x0F, 0x0B]
  // ud2, without any gate for it.
  static let traps: [UInt8] = [0x0F, 0x0B]
  // mov $0x3f8, %dx; mov $'x', %al; out; jmp back to the out.
  static let floods: [UInt8] = [0x66, 0xBA, 0xF8, 0x03, 0xB0, 0x78, 0xEE, 0xEB, 0xFD]
}
