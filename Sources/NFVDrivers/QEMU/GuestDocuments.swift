import ControlProtocol
import NFVModel
import Wire

/// What a guest of ours is told, in the form in which its init reads it: an archive that Linux
/// unpacks over the image's initramfs.
struct GuestDocuments {
  var specification: WorkloadSpecification
  var image: MachineImage

  /// - Throws: `tooLarge` where it is more than the guest's init takes.
  func archive() throws(NFVError) -> [UInt8] {
    let id = specification.id
    let start: [UInt8]
    do throws(WireError) {
      start = try self.start.encoded()
    } catch {
      throw NFVError(
        .tooLarge, "the command, environment and ports of \(id) are too long", cause: error)
    }
    var archive = CpioArchive()
    archive.addFolder(ControlProtocol.Place.folder)
    archive.addFile(ControlProtocol.Place.document, mode: 0o600, specification.document)
    archive.addFile(ControlProtocol.Place.start, mode: 0o600, start)
    archive.addFolder(ControlProtocol.Place.files)
    for (index, file) in specification.files.enumerated() {
      archive.addFile("\(ControlProtocol.Place.files)/\(index)", mode: 0o600, file.content)
    }
    return archive.finished()
  }

  private var start: GuestStart {
    let isKernels = specification.addressOwner == .kernel
    return GuestStart(
      command: specification.command ?? image.entrypoint,
      environment: image.environment + specification.environment,
      workingDirectory: image.workingDirectory, hostName: specification.hostName,
      forwards: isKernels && specification.forwards,
      files: specification.files.map { .init(path: $0.path, mode: $0.mode & 0o777) },
      ports: specification.ports.map { port in
        .init(
          name: port.interface, mac: port.mac.octets, mtu: UInt32(port.mtu),
          addresses: isKernels ? port.addresses.map(GuestStart.Prefix.init) : [],
          routes: isKernels
            ? port.routes.map {
              .init(destination: .init($0.destination), via: $0.via.octets)
            } : [])
      })
  }
}

extension GuestStart.Prefix {
  init(_ prefix: IPPrefix) {
    self.init(octets: prefix.address.octets, length: UInt8(prefix.length))
  }
}
