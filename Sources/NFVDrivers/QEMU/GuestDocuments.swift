import NFVModel

/// What a guest of ours is told, in the form in which its init reads it: an archive that Linux
/// unpacks over the image's initramfs.
struct GuestDocuments {
  var specification: WorkloadSpecification
  var image: MachineImage

  func archive() -> [UInt8] {
    var archive = CpioArchive()
    archive.addFolder("martlet")
    archive.addFile("martlet/config.json", mode: 0o600, specification.document)
    archive.addFile("martlet/start.json", mode: 0o600, Array(start.text.utf8))
    archive.addFolder("martlet/files")
    for (index, file) in specification.files.enumerated() {
      archive.addFile("martlet/files/\(index)", mode: 0o600, file.content)
    }
    return archive.finished()
  }

  private var start: JSONText {
    [
      "command": strings(specification.command ?? image.entrypoint),
      "environment": strings(image.environment + specification.environment),
      "workingDirectory": .string(image.workingDirectory),
      "hostName": .string(specification.hostName), "forwards": .bool(specification.forwards),
      "files": .array(
        specification.files.map {
          ["path": .string($0.path), "mode": .integer(Int64($0.mode & 0o777))]
        }),
      "ports": .array(specification.ports.map(port)),
    ]
  }

  private func port(_ port: Port) -> JSONText {
    [
      "name": .string(port.interface), "macAddress": .string(port.mac.description),
      "mtu": .integer(Int64(port.mtu)), "addresses": strings(port.addresses.map(\.description)),
      "routes": .array(
        port.routes.map {
          [
            "destination": .string($0.destination.description),
            "via": .string($0.via.description),
          ]
        }),
    ]
  }

  private func strings(_ values: [String]) -> JSONText { .array(values.map(JSONText.string)) }
}
