import Archive
import FoundationEssentials
import Glibc
import NFVModel
import NFVPackages
import TestSupport
import Testing

/// Packages that others wrote: those inside `python-tackerclient`, fetched from PyPI into `build/`.
enum TackerClient {
  /// The wheel's path; nil where there is none and it cannot be fetched.
  static let wheel: String? = {
    let folder = "\(Built.project)/build/tacker"
    func found() -> String? {
      (try? FileManager.default.contentsOfDirectory(atPath: folder))?.first {
        $0.hasPrefix("python_tackerclient-") && $0.hasSuffix(".whl")
      }.map { "\(folder)/\($0)" }
    }
    if let path = found() { return path }
    _ = system(
      "timeout 60 python3 -m pip --quiet --disable-pip-version-check download --no-deps "
        + "--only-binary :all: -d '\(folder)' python-tackerclient==2.6.0 >/dev/null 2>&1")
    return found()
  }()
}

extension Facility {
  static let tacker = Facility("tacker", TackerClient.wheel != nil)
}

@Suite(.needs(.tacker))
struct SamplePackageTests {
  /// The sample packages are folders in the wheel; each becomes a zip as SOL004 has it.
  @Test(arguments: ["sample_vnf_package", "sample_vnf_package_artifacts"])
  func sampleOfTackerParses(name: String) throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/sample.csar"
    let wheel = try ArchiveReader(path: try #require(TackerClient.wheel))
    let writer = try ArchiveWriter(path: path, format: .zip)
    while let entry = try wheel.next() {
      guard entry.kind == .file, let range = entry.path.firstRange(of: "/\(name)/") else {
        continue
      }
      try writer.add(
        file: String(entry.path[range.upperBound...]), content: try wheel.readAll(limit: 1 << 20))
    }
    try writer.finish()

    let package = try PackageReader.read(try PackageFiles(archive: path))
    let descriptor = package.descriptor
    #expect(descriptor.id == "b1bb0ce7-ebca-4fa7-95ed-4840d70a1177")
    #expect(descriptor.provider == "NTT NS lab")
    #expect(descriptor.flavours.map(\.id) == ["simple"])
    let flavour = try #require(descriptor.flavour("simple"))
    #expect(flavour.vdus.map(\.id) == ["VDU1", "VDU2"])
    #expect(flavour.vdu("VDU1")?.technology == .standardvm)
    #expect(flavour.vdu("VDU1")?.cpds.map(\.id) == ["CP1", "CP2"])
    #expect(flavour.vdu("VDU1")?.memoryBytes == 512_000_000)
    #expect(
      flavour.vdu("VDU2")?.storages == [.init(id: "VirtualStorage", sizeBytes: 30_000_000_000)])
    #expect(flavour.externalCpds.map(\.id) == ["CP1"])
    #expect(flavour.virtualLinks.map(\.id) == ["internalVL2"])
    #expect(flavour.virtualLinks[0].subnets == [try #require(IPPrefix("11.11.0.0/24"))])
    #expect(flavour.defaultInstantiationLevel == "instantiation_level_1")
    #expect(flavour.instantiationLevels["instantiation_level_2"]?.scale == ["worker_instance": 2])
    #expect(
      flavour.instantiationLevels["instantiation_level_2"]?.instances == ["VDU1": 3, "VDU2": 1])
    #expect(flavour.scalingAspects.map(\.maximumLevel) == [2])
    // Its images are elsewhere: said, with the place.
    let image = package.diagnostics.first { $0.message.contains("cirros") }
    #expect(image?.severity == .warning)
    #expect(image?.file == "Definitions/helloworld3_df_simple.yaml")
    #expect((image?.line ?? 0) > 0 && (image?.column ?? 0) > 0)
  }
}
