internal import LinuxSystem
internal import NFVModel
internal import NFVPackages

/// Reads a package's archive and imports its software images.
/// - Throws: what is wrong with the archive, with file, line and column.
func importPackage(
  _ archive: String, into images: any ImageStore
) async throws(NFVError) -> VnfPackage.Content {
  let package: ReadPackage
  do throws(PackageError) {
    package = try PackageReader.read(try PackageFiles(archive: archive))
  } catch {
    throw error.problem
  }
  var digests: [String: ImageDigest] = [:]
  var sizes: [String: UInt64] = [:]
  for path in package.imagePaths {
    let image = archive + ".image.part"
    try? removeFile(image)
    defer { try? removeFile(image) }
    try package.extract(path, to: image)
    do throws(NFVError) {
      let digest = try await images.importArchive(at: image)
      let prepared = try await images.ensure(digest)
      try check(prepared, of: path, for: package.descriptor)
      digests[path] = digest
      sizes[path] = prepared.size
    } catch {
      throw NFVError(
        error.code, "the software image \(path) cannot be imported: \(error.message)",
        cause: error.cause)
    }
  }
  let (digest, size) = try archiveDigest(archive)
  return VnfPackage.Content(
    descriptor: package.descriptor, digest: digest, size: size, images: digests,
    imageSizes: sizes, templates: package.templates)
}

/// Refuses an image that is not for the technology of the VDUs which name it.
private func check(
  _ image: PreparedImage, of path: String, for descriptor: VnfDescriptor
) throws(NFVError) {
  for flavour in descriptor.flavours {
    for vdu in flavour.vdus
    where vdu.imagePath == path && vdu.technology != image.technology ?? vdu.technology {
      throw NFVError(
        .unprocessable,
        "the VDU \(vdu.id) of the flavour \(flavour.id) is a \(vdu.technology), its image is one "
          + "for a \(image.technology?.rawValue ?? "")")
    }
  }
}
