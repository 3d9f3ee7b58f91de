internal import LinuxSystem
public import NFVModel

/// Images of registries, by skopeo(1).
public enum Registry {
  /// Copies an image of a registry into an OCI layout archive, for this host's architecture.
  ///
  /// - Parameters:
  ///   - reference: `docker://HOST/NAME:TAG`, or with `@sha256:…`; no other transport, since those
  ///     read files of this host.
  ///   - output: the archive, which must not be there yet.
  ///   - program: skopeo's path.
  public static func fetch(
    _ reference: String, to output: String, program: String = "/usr/bin/skopeo"
  ) throws(NFVError) {
    let scheme = "docker://"
    let name = reference.dropFirst(scheme.count)
    guard reference.hasPrefix(scheme), !name.isEmpty,
      name.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
    else {
      throw NFVError(
        .malformed,
        "\(reference) is no image of a registry, such as docker://docker.io/library/alpine:3.20")
    }
    guard fileExists(program) else {
      throw NFVError(
        .unavailable,
        "images of registries need \(program), which is not there; install the package skopeo")
    }
    // skopeo takes a colon for the end of the path.
    guard !output.contains(":") else {
      throw NFVError(.malformed, "the archive's path \(output) holds a colon; choose another")
    }
    guard !fileExists(output) else {
      throw NFVError(.conflict, "\(output) is there already; remove it or choose another name")
    }
    try naming("the image \(reference) cannot be fetched") {
      let result = try runProgram(
        program,
        arguments: [
          "skopeo", "--override-os", "linux", "--override-arch", OCI.hostArchitecture,
          "--command-timeout", "10m", "copy", "--quiet", "--", reference, "oci-archive:\(output)",
        ])
      guard result.status == 0 else {
        try removeFile(output)
        throw NFVError(
          .unavailable,
          "the image \(reference) cannot be fetched; see its name, and whether the registry can be "
            + "reached", cause: String(decoding: result.output.suffix(1024), as: UTF8.self))
      }
    }
  }
}
